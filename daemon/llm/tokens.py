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

_ID_BYTES = 4
_MARK = 3
"""Characters that special tokens are looked for by: their beginnings."""
_LONG = 1024
"""Characters of a text that is encoded without the interpreter's lock."""
_UNDECLARED = frozenset({"gemma3"})
"""Vocabularies that know special tokens which they do not name."""
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
    tokenizer = splintr.Tokenizer.from_pretrained(name)
    encode = tokenizer.encode_ordinary
    encode_flat = tokenizer.encode_batch_flat
    marks = frozenset(token[:_MARK] for token in tokenizer.special_tokens())
    least = None if name in _UNDECLARED else _LONG
    known: dict[str, int] = {}

    def encoded(text: str) -> int:
        # As a batch of one it is encoded without the interpreter's lock, so that other threads run.
        # Special tokens would be taken for what they are: nothing may look as if one began.
        if least is not None and len(text) > least and not any(m in text for m in marks):
            return len(encode_flat([text])[0]) // _ID_BYTES
        return len(encode(text))

    def count(text: str) -> int:
        # A stream's events are single tokens, mostly frequent ones: 0.1 µs instead of 2.
        if len(text) <= _SHORT:
            counted = known.get(text)
            if counted is not None:
                return counted
        try:
            counted = encoded(text)
        except UnicodeEncodeError:  # a lone surrogate: the upstream would replace it, too
            counted = encoded(text.encode("utf-8", "replace").decode())
        if len(text) <= _SHORT:
            if len(known) >= _MAX_KNOWN:
                known.clear()
            known[text] = counted
        return counted

    return count
