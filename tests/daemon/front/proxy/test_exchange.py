"""Plays of one exchange: an event, the actions that must follow, the next event."""

import gzip
import json

import pytest

from daemon.engine.stream_caps import StreamCaps
from daemon.front.proxy.actions import (
    Abort,
    Action,
    CloseUpstream,
    End,
    Forward,
    Keep,
    Open,
    Respond,
    Send,
    Settle,
    Truncated,
    Wait,
)
from daemon.front.proxy.asked import Asked
from daemon.front.proxy.exchange import ProxyExchange
from daemon.front.upstream_caller import Failure, ResponseHead
from daemon.llm.cut import Cut
from daemon.llm.meter import quarter_bytes
from daemon.llm.request import LlmRequest
from protocol.bundle import Streaming
from protocol.decision import Decision
from protocol.usage import Usage

PROMPT = 11
ALLOW = Decision(reservation="held")
JSON = [(b"Content-Type", b"application/json")]
SSE = [(b"Content-Type", b"text/event-stream")]
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ANSWER = json.dumps(
    {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
).encode()


def asked(*, stream: bool = False, cap: int | None = None, modern: bool = True) -> Asked:
    cut = Cut(cap, Streaming(buffer_tokens=1)) if cap is not None else None
    caps = StreamCaps(cut, None, PROMPT, quarter_bytes)
    llm = LlmRequest(stream=stream)
    return Asked("POST", "/v1/chat/completions", "", modern, "openai", llm, caps)


def asking(
    request: Asked | None = None, decision: Decision = ALLOW, *, sent: bool = True
) -> ProxyExchange:
    exchange = ProxyExchange("openai")
    assert exchange.decided(decision, request or asked()) == [Forward()]
    if sent:
        exchange.upstream_sent()
    return exchange


def relaying(
    request: Asked, headers: list[tuple[bytes, bytes]], status: int = 200, length: int | None = None
) -> ProxyExchange:
    exchange = asking(request)
    assert [type(each) for each in exchange.upstream_head(head(status, headers, length))] == [Open]
    return exchange


def head(
    status: int, headers: list[tuple[bytes, bytes]], length: int | None = None
) -> ResponseHead:
    return ResponseHead(status, b"Fine", headers, length)


def event(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % text.encode()


def chunk(data: bytes) -> Send:
    return Send(b"%x\r\n%b\r\n" % (len(data), data))


LAST = [Send(b"0\r\n\r\n"), End()]


def test_a_reject_never_reaches_the_upstream() -> None:
    exchange = ProxyExchange("openai")
    reject = Decision(action="reject", status=429, reason="tpm_exceeded", retry_after=3)
    [action] = exchange.decided(reject, asked())
    assert isinstance(action, Respond)
    assert b"Retry-After: 3\r\n" in action.head
    assert json.loads(action.body)["error"]["code"] == "rate_limit_exceeded"
    assert exchange.client_gone() == []


def test_a_whole_answer_passes_and_settles_once() -> None:
    exchange = asking()
    length = len(ANSWER)
    [opened] = exchange.upstream_head(head(200, JSON, length))
    assert isinstance(opened, Open)
    assert opened.head.endswith(b"Content-Length: %d\r\n" % length)
    assert exchange.upstream_data(ANSWER[:5]) == [Send(ANSWER[:5])]
    assert exchange.upstream_data(ANSWER[5:]) == [Send(ANSWER[5:])]
    assert exchange.upstream_end() == [Settle(Usage(3, 4, 7)), End()]
    assert exchange.client_gone() == []
    assert exchange.upstream_end() == []


def test_a_stream_is_framed_anew_and_settles_by_what_was_counted() -> None:
    exchange = relaying(asked(stream=True), SSE)
    first = event("abcdefgh")
    assert exchange.upstream_data(first[:9]) == []
    assert exchange.upstream_data(first[9:] + b"da") == [chunk(first)]
    expected: list[Action] = [Settle(Usage(PROMPT, 2, PROMPT + 2)), chunk(b"da"), *LAST]
    assert exchange.upstream_end() == expected


def test_an_old_client_gets_no_chunks() -> None:
    exchange = asking(asked(stream=True, modern=False))
    [opened] = exchange.upstream_head(head(200, SSE))
    assert isinstance(opened, Open)
    assert opened.close
    assert CHUNKED not in opened.head
    assert exchange.upstream_data(event("a")) == [Send(event("a"))]
    assert exchange.upstream_end()[-1] == End()


def test_a_cut_ends_the_answer_and_stops_the_upstream() -> None:
    exchange = relaying(asked(stream=True, cap=2), SSE)
    todo = exchange.upstream_data(event("abcdefgh") + event("ijkl") + event("never"))
    assert todo[:2] == [Truncated(3), Settle(Usage(PROMPT, 3, PROMPT + 3))]
    assert isinstance(todo[2], Send)
    assert b"abcdefgh" in todo[2].data
    assert b"ijkl" not in todo[2].data
    assert b"[DONE]" in todo[2].data
    assert todo[3:] == [*LAST, CloseUpstream()]
    assert exchange.upstream_data(event("more")) == []
    assert exchange.client_gone() == []


def test_json_in_answer_to_a_stream_request_is_read_as_json() -> None:
    exchange = relaying(asked(stream=True), JSON)
    exchange.upstream_data(ANSWER)
    assert exchange.upstream_end()[0] == Settle(Usage(3, 4, 7))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("why", "status"),
    [("unreachable", 502), ("unanswered", 502), ("broken", 502), ("timeout", 504)],
)
def test_no_answer_costs_nothing(*, why: Failure, status: int, stream: bool) -> None:
    exchange = asking(asked(stream=stream))
    settle, answer = exchange.upstream_failed(why)
    assert settle == Settle(None)
    assert isinstance(answer, Respond)
    assert answer.head.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("status", "body", "end"),
    [
        (500, b"", Settle(None)),
        (429, b'{"error":{}}', Settle(None)),
        (400, ANSWER, Settle(Usage(3, 4, 7))),
        (200, b"not json", Keep("json_parse_error")),
        (200, b"{}", Keep("usage_not_found")),
        (200, b" " * 1_048_577, Keep("body_too_large")),
    ],
)
def test_what_an_answer_says_of_its_usage(status: int, body: bytes, end: Action) -> None:
    exchange = relaying(asked(), JSON, status)
    exchange.upstream_data(body)
    assert exchange.upstream_end()[0] == end


def test_an_answer_that_breaks_off_breaks_off_for_the_client() -> None:
    whole = relaying(asked(), JSON, length=100)
    whole.upstream_data(b"{")
    assert whole.upstream_failed("broken") == [Keep("response_broken"), Abort()]
    stream = relaying(asked(stream=True), SSE)
    stream.upstream_data(event("abcd"))
    assert stream.upstream_failed("broken") == [Settle(Usage(PROMPT, 1, PROMPT + 1)), Abort()]


def test_a_client_that_leaves_before_anything_is_sent_gets_all_back() -> None:
    refund: list[Action] = [CloseUpstream(), Settle(None)]
    assert asking(sent=False).client_gone() == refund
    delayed = ProxyExchange("openai")
    throttle = Decision(action="throttle", delay_ms=1500, reservation="held")
    assert delayed.decided(throttle, asked()) == [Wait(1.5)]
    assert delayed.client_gone() == refund
    assert delayed.delay_over() == []


def test_a_client_that_leaves_while_it_is_decided_gets_all_back() -> None:
    exchange = ProxyExchange("openai")
    assert exchange.client_gone() == []
    assert exchange.decided(ALLOW, asked()) == [Settle(None)]


def test_a_throttle_passes_on_after_its_delay() -> None:
    exchange = ProxyExchange("openai")
    exchange.decided(Decision(action="throttle", delay_ms=10), asked())
    assert exchange.delay_over() == [Forward()]


def test_a_client_that_leaves_a_stream_pays_for_what_was_made() -> None:
    waiting = asking(asked(stream=True))
    assert waiting.client_gone() == [CloseUpstream(), Settle(Usage(PROMPT, 0, PROMPT))]
    exchange = relaying(asked(stream=True), SSE)
    exchange.upstream_data(event("abcd"))
    assert exchange.client_gone() == [CloseUpstream(), Settle(Usage(PROMPT, 1, PROMPT + 1))]


def test_a_client_that_leaves_a_whole_answer_stays_charged() -> None:
    assert asking().client_gone() == [
        CloseUpstream(),
        Keep("client_gone"),
    ]


def test_without_a_reservation_nothing_is_settled() -> None:
    exchange = asking(decision=Decision())
    exchange.upstream_head(head(200, JSON, len(ANSWER)))
    exchange.upstream_data(ANSWER)
    assert exchange.upstream_end() == [End()]


def test_what_cannot_be_decoded_passes_unread() -> None:
    exchange = relaying(asked(stream=True), [*SSE, (b"Content-Encoding", b"br")])
    assert exchange.upstream_data(b"\x1f\x8b") == [chunk(b"\x1f\x8b")]
    assert exchange.upstream_end() == [Keep("compressed"), *LAST]


def test_a_compressed_document_is_read_and_passes_as_it_is() -> None:
    coded = gzip.compress(ANSWER)
    exchange = asking()
    fields = [*JSON, (b"Content-Encoding", b"gzip")]
    [opened] = exchange.upstream_head(head(200, fields, len(coded)))
    assert isinstance(opened, Open)
    assert b"Content-Encoding: gzip\r\n" in opened.head
    assert exchange.upstream_data(coded[:9]) == [Send(coded[:9])]
    assert exchange.upstream_data(coded[9:]) == [Send(coded[9:])]
    assert exchange.upstream_end() == [Settle(Usage(3, 4, 7)), End()]


@pytest.mark.parametrize("coded", [b"no gzip at all", gzip.compress(bytes(1 << 21))])
def test_a_document_that_cannot_be_expanded_passes_and_stays_charged(coded: bytes) -> None:
    exchange = relaying(asked(), [*JSON, (b"Content-Encoding", b"gzip")], length=len(coded))
    assert exchange.upstream_data(coded) == [Send(coded)]
    assert exchange.upstream_end() == [Keep("compressed"), End()]


def test_a_compressed_stream_is_metered_and_cut_without_its_coding() -> None:
    coded = gzip.compress(event("abcdefgh") + event("ijkl") + event("never"))
    exchange = asking(asked(stream=True, cap=2))
    [opened] = exchange.upstream_head(head(200, [*SSE, (b"Content-Encoding", b"gzip")]))
    assert isinstance(opened, Open)
    assert b"Content-Encoding" not in opened.head
    todo = [*exchange.upstream_data(coded[:20]), *exchange.upstream_data(coded[20:])]
    sent = b"".join(each.data for each in todo if isinstance(each, Send))
    assert b"abcdefgh" in sent
    assert b"ijkl" not in sent
    assert Settle(Usage(PROMPT, 3, PROMPT + 3)) in todo
    assert todo[-1] == CloseUpstream()


def test_a_stream_that_expands_without_end_is_broken_off() -> None:
    exchange = relaying(asked(stream=True), [*SSE, (b"Content-Encoding", b"gzip")])
    todo = exchange.upstream_data(gzip.compress(bytes(32 << 20)))
    assert todo == [CloseUpstream(), Settle(Usage(PROMPT, 0, PROMPT)), Abort()]


def test_a_client_that_leaves_during_its_upload_gets_all_back() -> None:
    assert asking(asked(stream=True), sent=False).client_gone() == [CloseUpstream(), Settle(None)]


def test_a_debug_session_sees_its_fields_on_every_answer() -> None:
    debug = b"X-Fairvisor-Debug-Reason: x\r\n"
    exchange = ProxyExchange("openai")
    exchange.decided(ALLOW, asked(), debug)
    forged = [*JSON, (b"x-fairvisor-debug-policy", b"forged")]
    [opened] = exchange.upstream_head(head(200, forged, 1))
    assert isinstance(opened, Open)
    assert debug in opened.head
    assert b"forged" not in opened.head
    reject = Decision(action="reject", status=429, reason="tpm_exceeded", retry_after=3)
    [answer] = ProxyExchange("openai").decided(reject, asked(), debug)
    assert isinstance(answer, Respond)
    assert debug in answer.head


def test_bodiless_answers_keep_their_length() -> None:
    request = Asked("HEAD", "/", "", modern=True, family=None)
    [opened] = asking(request).upstream_head(head(200, JSON, 17))
    assert isinstance(opened, Open)
    assert opened.head.endswith(b"Content-Length: 17\r\n")
    [opened] = asking(asked()).upstream_head(head(204, [], 0))
    assert isinstance(opened, Open)
    assert b"Content-Length" not in opened.head
