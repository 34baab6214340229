import pytest

from daemon.engine.context import Context
from daemon.engine.extract import extractor
from daemon.engine.sources import Sources
from protocol.request import Request

CLAIMS: dict[str, object] = {
    "sub": "ann",
    "n": 42,
    "f": 1.5,
    "yes": True,
    "none": None,
    "list": [1],
    "empty": "",
}
HEADERS = {
    b"authorization": b"x",
    b"x-api-key": b"k",
    b"x-empty": b"",
    b"user-agent": b"GPTBot/1.0",
    b"x-country-code": b"DE",
    b"x-asn": b"13335",
    b"x-tor-exit": b"yes",
}


def read(key: str, **request: object) -> str | None:
    values = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": HEADERS,
        "query": "team=a",
        "peer": "192.0.2.9",
        "body": b'{"model":"gpt-x"}',
    } | request
    asked = Request(**values)  # type: ignore[arg-type]
    return extractor(key)(Context(asked, Sources(draw_id=lambda: bytes(16)), lambda *_: CLAIMS, 0))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("jwt:sub", "ann"),
        ("jwt:n", "42"),
        ("jwt:f", "1.5"),
        ("jwt:yes", "true"),
        ("jwt:none", None),
        ("jwt:list", None),
        ("jwt:empty", None),
        ("jwt:gone", None),
        ("header:x-api-key", "k"),
        ("header:X_API_Key", "k"),
        ("header:x-empty", None),
        ("header:gone", None),
        ("query:team", "a"),
        ("query:Team", None),
        ("ip:address", "192.0.2.9"),
        ("ip:country", "DE"),
        ("ip:asn", "13335"),
        ("ip:tor", "true"),
        ("ua:bot", "true"),
        ("ua:bot_category", "ai_crawler"),
        ("llm:model", "gpt-x"),
        ("llm:provider", "openai"),
        ("llm:endpoint", "chat"),
    ],
)
def test_values(key: str, value: str | None) -> None:
    assert read(key) == value


@pytest.mark.parametrize("key", ["ip:country", "ip:asn", "ip:tor"])
def test_edge_headers_of_strangers_are_missing(key: str) -> None:
    assert read(key, trusted=False) is None


@pytest.mark.parametrize(
    ("agent", "bot", "category"), [(b"curl/8", "false", None), (b"", None, None)]
)
def test_agents(agent: bytes, bot: str | None, category: str | None) -> None:
    headers = {b"user-agent": agent}
    assert read("ua:bot", headers=headers) == bot
    assert read("ua:bot_category", headers=headers) == category


@pytest.mark.parametrize("key", ["", "jwt", "jwt:", "ip:planet", "who:me", "header:a b"])
def test_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="not a descriptor key"):
        extractor(key)
