import pytest

from daemon.engine.context import MAX_QUERY_PAIRS, Context, parse_query
from daemon.engine.sources import Sources
from protocol.request import Request


def context(sources: Sources | None = None, **request: object) -> Context:
    asked = Request(**({"method": "POST", "path": "/v1/chat/completions", "headers": {}} | request))  # type: ignore[arg-type]
    around = sources or Sources(draw_id=lambda: bytes(16))
    return Context(
        asked, around, lambda header, now: {"sub": header.decode(), "now": now}, 5_500_000
    )


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {"": ""}),
        ("a=1", {"a": "1"}),
        ("a=1&a=2", {"a": "1"}),
        ("a=&a=2", {"a": ""}),  # the first counts, and it is empty
        ("a", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a%20b=c%26d+e", {"a b": "c&d e"}),
        ("A=1&a=2", {"A": "1", "a": "2"}),
        ("a=%ff", {"a": "\ufffd"}),
        ("a=%zz", {"a": "%zz"}),
        ("&&a=1", {"": "", "a": "1"}),
    ],
)
def test_parse_query(query: str, values: dict[str, str]) -> None:
    assert parse_query(query) == values


def test_a_long_query_is_read_up_to_a_bound() -> None:
    query = "&".join(f"k{number}={number}" for number in range(MAX_QUERY_PAIRS + 5))
    values = parse_query(query)
    assert len(values) == MAX_QUERY_PAIRS
    assert f"k{MAX_QUERY_PAIRS}" not in values


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"a", "a"), (b"", None), ("ü".encode(), "ü"), (b"\xfc", "ü"), (None, None)],
)
def test_headers(raw: bytes | None, text: str | None) -> None:
    headers = {} if raw is None else {b"x-a": raw}
    assert context(headers=headers).header(b"x-a") == text
    assert context(headers=headers, trusted=False).edge_header(b"x-a") is None
    assert context(headers=headers).edge_header(b"x-a") == text


def test_claims_are_read_with_the_time_in_seconds_and_once() -> None:
    read = context(headers={b"authorization": b"x"})
    assert read.claims == {"sub": "x", "now": 5.5}
    assert read.claims is read.claims
    assert context().claims is None


@pytest.mark.parametrize(
    ("body", "proxies", "model", "prompt"),
    [
        (b'{"model":"m","messages":[{"content":"12345678"}]}', False, "m", 2),
        (b"not json but text", False, None, 9),  # the hint counts: there is no body to speak of
        (b"not json but text", True, None, 5),
        (b"", False, None, 9),
        (b"", True, None, 9),
    ],
)
def test_bodies(body: bytes, *, proxies: bool, model: str | None, prompt: int) -> None:
    sources = Sources(draw_id=lambda: bytes(16), proxies=proxies)
    read = context(sources, body=body, headers={b"x-token-estimate": b"8.5"})
    assert read.llm.model == model
    assert read.prompt_tokens("simple_word") == prompt
    untrusted = context(sources, headers={b"x-token-estimate": b"8.5"}, trusted=False)
    assert untrusted.prompt_tokens("simple_word") == 0
