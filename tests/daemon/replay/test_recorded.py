"""Decision records (§19) back to requests."""

import pytest

from daemon.replay.recorded import is_record, moment, request_of_record


def test_descriptors_go_where_they_were_read_from() -> None:
    record = {
        "time": 5,
        "path": "/a",
        "method": "POST",
        "client_ip": "192.0.2.1",
        "descriptors": {
            "header:x-a": "1",
            "query:b": "2",
            "jwt:sub": "3",
            "ip:country": "NZ",
            "ip:asn": "64496",
            "ip:type": "isp",
            "ip:tor": "false",
            "ua:bot": "true",
        },
        "fingerprint": "f00",
    }
    assert request_of_record(record) == {
        "at": 5,
        "path": "/a",
        "method": "POST",
        "headers": {
            "x-a": "1",
            "X-Country-Code": "NZ",
            "X-ASN": "64496",
            "X-ASN-Type": "isp",
            "X-Tor-Exit": "false",
            "X-Forwarded-For": "192.0.2.1",
        },
        "query": {"b": "2"},
        "jwt": {"sub": "3"},
        "body": "f00",
    }


def test_an_exchange_with_a_model_asks_for_what_was_reserved() -> None:
    record = {"time": 5, "path": "/a", "descriptors": {"llm:model": "m"}, "reserved": 70}
    request = request_of_record(record)
    assert request is not None
    assert request["body"] == {
        "messages": [],
        "model": "m",
        "max_tokens": 70,
        "fingerprint": None,
    }


def test_events_are_no_requests() -> None:
    assert request_of_record({"time": 5, "event": "bundle_applied"}) is None
    assert request_of_record({"time": 5, "event": "stream_truncated", "path": "/a"}) is None


def test_a_record_has_a_time_and_an_entry_has_not() -> None:
    assert is_record({"time": 1, "path": "/"})
    assert not is_record({"at": 1, "path": "/"})
    assert not is_record({"path": "/"})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0),
        (5.25, 5.25),
        ("1970-01-01T00:00:05Z", 5.0),
        ("1970-01-01T00:00:05.250Z", 5.25),
        ("1970-01-01T01:00:05+01:00", 5.0),
        ("1970-01-01T00:00:05", 5.0),
        ("5", None),
        ("", None),
        (True, None),
        (None, None),
        (float("inf"), None),
        ([], None),
    ],
)
def test_moments(value: object, seconds: float | None) -> None:
    assert moment(value) == seconds
