import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.learned import model_tag
from daemon.engine.settlement import SettlementError, read_settlement, reservation_text
from protocol.usage import Usage

RID = bytes(range(16))


def body(**document: object) -> bytes:
    return json.dumps({"reservation": reservation_text(RID, [7, 2**32 - 1]), **document}).encode()


def test_an_id_says_where_its_parts_are() -> None:
    settlement = read_settlement(body(usage={"prompt_tokens": 3, "completion_tokens": 4}))
    assert settlement.reservation == RID
    assert settlement.placements == (7, 2**32 - 1)
    assert settlement.usage == Usage(3, 4, 7)


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"usage": {"total_tokens": 9}}, Usage(None, None, 9)),
        ({"total_tokens": 9}, Usage(None, None, 9)),
        ({"total_tokens": 0}, Usage(None, None, 0)),
        (
            {"response_body": {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}},
            Usage(1, 2, 3),
        ),
        (
            {
                "response_body": {
                    "type": "message",
                    "usage": {"input_tokens": 1, "cache_read_input_tokens": 5, "output_tokens": 2},
                }
            },
            Usage(6, 2, 8, cached_input=5),
        ),
        (
            {"response_body": {"usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 6}}},
            None,
        ),
    ],
)
def test_what_was_used(document: dict[str, object], usage: Usage | None) -> None:
    found = read_settlement(body(**document)).usage
    assert found.total in (6, usage.total if usage else 6)
    if usage is not None:
        assert found == usage


@pytest.mark.parametrize(
    ("raw", "fragment"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"{}", "reservation"),
        (b'{"reservation": 5}', "reservation"),
        (body(), "one of"),
        (body(usage={}), "usage"),
        (body(usage={"prompt_tokens": -1, "completion_tokens": 1}), "usage"),
        (body(total_tokens="many"), "total_tokens"),
        (body(response_body={}), "usage_not_found"),
        (body(response_body="{"), "json_parse_error"),
    ],
)
def test_malformed(raw: bytes, fragment: str) -> None:
    with pytest.raises(SettlementError, match=fragment):
        read_settlement(raw)


@pytest.mark.parametrize("text", ["x", "AAAA", "%%%%", "A" * 23, "é" * 30])
def test_text_that_is_no_id_is_nobodys_reservation(text: str) -> None:
    settlement = read_settlement(json.dumps({"reservation": text, "total_tokens": 1}).encode())
    assert settlement.placements == ()


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    with suppress(SettlementError):
        read_settlement(raw)


@given(
    st.binary(min_size=16, max_size=16),
    st.lists(st.integers(0, 2**32 - 1), max_size=8),
    st.sampled_from([b"", model_tag("m"), model_tag(None)]),
)
def test_ids_come_back(rid: bytes, places: list[int], model: bytes) -> None:
    text = reservation_text(rid, places, model)
    settlement = read_settlement(json.dumps({"reservation": text, "total_tokens": 1}).encode())
    assert (settlement.reservation, list(settlement.placements)) == (rid, places)
    assert settlement.model == model
