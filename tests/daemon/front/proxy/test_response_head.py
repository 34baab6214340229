import pytest

from daemon.front.proxy.heads import response_head
from daemon.front.upstream_caller import ResponseHead
from daemon.front.upstream_headers import Headers
from protocol.decision import Decision, Limit

ALLOW = Decision(action="allow", reason="all_rules_passed")
LIMITED = Decision(
    action="allow",
    reason="all_rules_passed",
    fields=Limit(policy_id="p", quota=10, remaining=9, reset=1, window=60),
    reservation="r1",
)


def passed(headers: Headers, decision: Decision = ALLOW, *, names_nothing: bool = True) -> Headers:
    """Return the fields that the client sees; twice the same, the second time from memory."""
    head = ResponseHead(200, b"OK", headers, None, names_nothing=names_nothing)
    first, second = (response_head(head, decision, b"") for _ in range(2))
    assert first == second
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    pairs = (line.partition(b": ") for line in first.split(b"\r\n")[1:-1])
    return [(name, value) for name, _, value in pairs]


def test_fields_pass_as_they_are_in_their_order() -> None:
    headers = [(b"B", b"1"), (b"a", b""), (b"B", b"2"), (b"Set-Cookie", b"x"), (b"X_Y", b"3")]
    assert passed(headers) == headers


@pytest.mark.parametrize(
    "name",
    [b"Connection", b"keep-alive", b"Transfer-Encoding", b"CONTENT-LENGTH", b"Upgrade", b"Trailer",
     b"x-fairvisor-reservation"],
)  # fmt: skip
def test_what_belongs_to_the_connection_or_to_us_stays_behind(name: bytes) -> None:
    assert passed([(name, b"keep-alive"), (b"A", b"1")]) == [(b"A", b"1")]


def test_what_the_upstream_names_stays_behind() -> None:
    headers = [(b"X-Mine", b"1"), (b"Connection", b"close, x-mine"), (b"A", b"1")]
    assert passed(headers, names_nothing=False) == [(b"A", b"1")]


def test_the_decisions_fields_replace_the_upstreams() -> None:
    found = passed([(b"ratelimit-limit", b"5"), (b"A", b"1")], LIMITED)
    assert found[0] == (b"A", b"1")
    assert [value for name, value in found if name.lower() == b"ratelimit-limit"] == [b"10"]
    assert b"r1" not in {value for _, value in found}
