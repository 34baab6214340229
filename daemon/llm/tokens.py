"""Count tokens with the vocabulary of a model, offline (behaviour §5.6 `tokenizer`).

A model's vocabulary is chosen by the first pattern below that its name contains, in lower case.
Vendors that publish none (Anthropic, Google, xAI, Perplexity) and unknown models are counted with
the default, `o200k_base`: exact for OpenAI's current models and close for the others.

Loading a vocabulary costs some 60 ms and 30 MB: it happens on first use, or at start by `preload`.
"""

from collections.abc import Callable, Iterable
from functools import cache

import splintr

TokenCounter = Callable[[str], int]

DEFAULT_VOCABULARY = "o200k_base"

_SHORT = 32
"""Characters of a text whose count is kept."""
_MAX_KNOWN = 16_384
"""Counts that are kept for a vocabulary: 2 MB."""

_VOCABULARIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("gpt-oss",), "gpt-oss"),
    (("gpt-3.5", "gpt-35", "text-embedding", "davinci-002", "babbage-002"), "cl100k_base"),
    (("gpt-4o", "gpt-4.", "chatgpt-4o"), "o200k_base"),
    (("gpt-4",), "cl100k_base"),
    (("llama-2", "llama2", "codellama"), "llama2"),
    (("llama",), "llama3"),
    (("deepseek",), "deepseek_v3"),
    (("qwen", "qwq"), "qwen3"),
    (("glm",), "glm4"),
    (("kimi", "moonshot"), "kimi_k2"),
    (("phi-4", "phi4"), "phi4"),
    (("gemma",), "gemma3"),
    (("mixtral-8x22b", "codestral"), "mistral_v2"),
    (("mixtral", "mistral-7b"), "mistral_v1"),
    (("mistral", "ministral", "magistral", "pixtral", "devstral", "voxtral"), "mistral_v3"),
)


def vocabulary(model: str | None) -> str:
    """Return the name of the vocabulary for a model; the default if it is unknown."""
    name = (model or "").lower()
    for patterns, found in _VOCABULARIES:
        if any(pattern in name for pattern in patterns):
            return found
    return DEFAULT_VOCABULARY


def counter(model: str | None) -> TokenCounter:
    """Return the function that counts the tokens of a text for a model, loading what it needs."""
    return _load(vocabulary(model))


def preload(models: Iterable[str | None] = (None,)) -> None:
    """Load the vocabularies of these models now, so that no request waits for it."""
    for model in models:
        counter(model)


@cache  # bounded by the table above
def _load(name: str) -> TokenCounter:
    encode = splintr.Tokenizer.from_pretrained(name).encode_ordinary
    known: dict[str, int] = {}

    def count(text: str) -> int:
        # A stream's events are single tokens, mostly frequent ones: 0.1 µs instead of 2.
        if len(text) <= _SHORT:
            counted = known.get(text)
            if counted is not None:
                return counted
        try:
            counted = len(encode(text))
        except UnicodeEncodeError:  # a lone surrogate: the upstream would replace it, too
            counted = len(encode(text.encode("utf-8", "replace").decode()))
        if len(text) <= _SHORT:
            if len(known) >= _MAX_KNOWN:
                known.clear()
            known[text] = counted
        return counted

    return count
