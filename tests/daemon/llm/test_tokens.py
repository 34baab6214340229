import pytest

from daemon.llm.tokens import DEFAULT_VOCABULARY, counter, preload, vocabulary


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("openai/gpt-oss-120b", "gpt-oss"),
        ("o3", DEFAULT_VOCABULARY),
        ("claude-sonnet-4-5", DEFAULT_VOCABULARY),
        ("gemini-2.5-pro", DEFAULT_VOCABULARY),
        ("meta-llama/Llama-3.3-70B", "llama3"),
        ("deepseek-chat", "deepseek_v3"),
        ("mistral-large-latest", "mistral_v3"),
        (None, DEFAULT_VOCABULARY),
    ],
)
def test_vocabulary_of_a_model(model: str | None, expected: str) -> None:
    assert vocabulary(model) == expected


def test_counts_bpe_tokens() -> None:
    preload()
    count = counter("gpt-4o")
    assert count("") == 0
    assert count("hello world") == 2
    assert count("hello world" * 50) > 50


def test_special_tokens_are_plain_text() -> None:
    assert counter(None)("<|endoftext|>") > 1


def test_lone_surrogates_count_like_their_replacement() -> None:
    assert counter(None)("a\ud800b") == counter(None)("a?b")
