import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.estimate import parse_hint, prompt_tokens
from daemon.llm.request import read
from protocol.bundle import Estimator
from protocol.usage import MAX_TOKENS

CHAT = read(b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello world"}]}', "/")
ESTIMATORS: list[Estimator] = ["simple_word", "header_hint", "tokenizer"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_a_body_the_hint_counts(estimator: Estimator) -> None:
    assert prompt_tokens(estimator, read(b"", "/"), b"120.2") == 121
    assert prompt_tokens(estimator, read(b"", "/"), b"many") == 0
    assert prompt_tokens(estimator, read(b"", "/")) == 0
    assert prompt_tokens(estimator, read(b"text", "/", json_only=True), b"5") == 5


def test_with_a_body_only_header_hint_reads_the_hint() -> None:
    assert [prompt_tokens(name, CHAT, b"1500") for name in ESTIMATORS] == [3, 1500, 2]
    assert prompt_tokens("header_hint", CHAT, b"many") == 3
    assert prompt_tokens("header_hint", CHAT) == 3


@pytest.mark.parametrize(
    "body",
    [b'{"input":"hi"}', b'{"messages":"no array"}', b"[1,2,3,4]", b"not json", b'"messages"'],
)
def test_simple_word_without_messages_counts_the_body(body: bytes) -> None:
    assert prompt_tokens("simple_word", read(body, "/")) == -(-len(body) // 4)


def test_simple_word_of_no_messages_is_nothing() -> None:
    assert prompt_tokens("simple_word", read(b'{"messages":[]}', "/")) == 0


def test_tokenizer_reads_every_format() -> None:
    def count(body: bytes) -> int:
        return prompt_tokens("tokenizer", read(body, "/"), load_counter=lambda _: len)

    assert count(b'{"input":"abc"}') == 3
    assert count(b'{"system":"ab","messages":[{"content":"abc"}]}') == 5
    assert count(b'{"contents":[{"parts":[{"text":"abcd"}]}]}') == 4
    assert count(b'{"foo":"bar"}') == 4
    assert count(b"not json") == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1500", 1500),
        (b" 10.2 ", 11),
        (b"1e3", 1000),
        (b".5", 1),
        (b"0", 0),
        (b"1e999", MAX_TOKENS),
        (b"1e-999", 1),
        (b"", None),
        (b"-1", None),
        (b"inf", None),
        (b"nan", None),
        (b"0x10", None),
        (b"1_000", None),
        (b"12 13", None),
    ],
)
def test_hints(text: bytes, expected: int | None) -> None:
    assert parse_hint(text) == expected


@given(st.binary(max_size=60))
def test_any_hint_is_tolerated(text: bytes) -> None:
    found = parse_hint(text)
    assert found is None or 0 <= found <= MAX_TOKENS
