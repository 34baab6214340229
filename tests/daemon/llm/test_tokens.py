import pytest
import splintr

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


LONG = [
    "the quick brown fox " * 100,
    "漢字と🙂 é\u2019s\r\n\t\x00 don't 0123 " * 60,
    '{"a": [1, 2.5, null]}' * 90,
    "a<b && c[0] </div> <unk " * 80, "x" * 3000,
]  # fmt: skip
SPECIAL = [
    "<|endoftext|>", "<s>", "[INST]", "<start_of_turn>", "</think>", "<|im_start|>", "[@BOS@]",
    "<\uff5cUser\uff5c>", "<2mass>", "<unused1>", "[gMASK]",
]  # fmt: skip


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4", "llama-3", "gemma-3", "mistral-large", "deepseek-chat", "qwen3"]
)
def test_long_texts_count_as_if_every_token_were_plain_text(model: str) -> None:
    encode = splintr.Tokenizer.from_pretrained(vocabulary(model)).encode_ordinary
    count = counter(model)
    for text in LONG:
        assert count(text) == len(encode(text))
        for token in SPECIAL:
            for mixed in (token + text, text + token, text[:900] + token + text[900:]):
                assert count(mixed) == len(encode(mixed)), token
