"""The usage objects of the three families, read into one `Usage` (behaviour §11.1).

OpenAI and Gemini count cached tokens *within* the prompt; Anthropic counts cache reads and writes
*beside* `input_tokens`, so its prompt is the sum of the three. Reasoning is part of the completion
everywhere in `Usage`. Negative and non-numeric values are as good as absent.

Shapes after platform.openai.com/docs/api-reference (`usage` of chat, responses, embeddings),
docs.anthropic.com/en/api/messages (`usage`), ai.google.dev/api/generate-content (`UsageMetadata`).
"""

from collections.abc import Callable

from daemon.llm.prompt import objects
from daemon.llm.providers import Family
from protocol.usage import Usage, whole_tokens


def from_openai(value: object) -> Usage | None:
    """Read `usage` of chat, completions, embeddings or responses; None if it holds no count."""
    if not isinstance(value, dict):
        return None
    prompt = _first(value, "prompt_tokens", "input_tokens")
    completion = _first(value, "completion_tokens", "output_tokens")
    inside = _object(value, "prompt_tokens_details") or _object(value, "input_tokens_details")
    outside = _object(value, "completion_tokens_details") or _object(value, "output_tokens_details")
    reasoning = _count(outside, "reasoning_tokens")
    total = _first(value, "total_tokens")
    if reasoning and total == (prompt or 0) + (completion or 0) + reasoning:
        completion = (completion or 0) + reasoning  # xAI leaves it out, but bills it as output
    counts = _complete(prompt, completion, total)
    if counts is None:
        return None
    cached = _first(inside, "cached_tokens")
    if cached is None:  # DeepSeek, Moonshot
        cached = _first(value, "prompt_cache_hit_tokens", "cached_tokens")
    return Usage(
        *counts,
        cached_input=cached or 0,
        cached_audio=_count(_object(inside, "cached_tokens_details"), "audio_tokens"),
        cache_write=_count(inside, "cache_write_tokens"),
        audio_input=_count(inside, "audio_tokens"),
        reasoning=reasoning,
        audio_output=_count(outside, "audio_tokens"),
    )


def from_anthropic(value: object) -> Usage | None:
    """Read `usage` of a message; None if it holds no count."""
    if not isinstance(value, dict):
        return None
    plain = _first(value, "input_tokens")
    written = _first(value, "cache_creation_input_tokens")
    cached = _first(value, "cache_read_input_tokens")
    completion = _first(value, "output_tokens")
    if plain is written is cached is completion is None:
        return None
    prompt = (plain or 0) + (written or 0) + (cached or 0)
    return Usage(
        prompt,
        completion or 0,
        prompt + (completion or 0),
        cached_input=cached or 0,
        cache_write=written or 0,
        cache_write_1h=_count(_object(value, "cache_creation"), "ephemeral_1h_input_tokens"),
        reasoning=_count(_object(value, "output_tokens_details"), "thinking_tokens"),
    )


def from_gemini(value: object) -> Usage | None:
    """Read `usageMetadata`; None if it holds no count. Zeros are left out of it."""
    if not isinstance(value, dict):
        return None
    prompt = _first(value, "promptTokenCount")
    candidates = _first(value, "candidatesTokenCount")
    thoughts = _first(value, "thoughtsTokenCount")
    total = _first(value, "totalTokenCount")
    if prompt is candidates is thoughts is None:
        return None if total is None else Usage(total=total)
    completion = (candidates or 0) + (thoughts or 0)
    return Usage(
        prompt or 0,
        completion,
        (prompt or 0) + completion if total is None else total,
        cached_input=_count(value, "cachedContentTokenCount"),
        cached_audio=_modality(value, "cacheTokensDetails", "AUDIO"),
        audio_input=_modality(value, "promptTokensDetails", "AUDIO"),
        reasoning=thoughts or 0,
        audio_output=_modality(value, "candidatesTokensDetails", "AUDIO"),
        image_output=_modality(value, "candidatesTokensDetails", "IMAGE"),
    )


READERS: dict[Family, Callable[[object], Usage | None]] = {
    "openai": from_openai,
    "anthropic": from_anthropic,
    "gemini": from_gemini,
}


def of_counts(
    prompt: object = None, completion: object = None, total: object = None
) -> Usage | None:
    """Build a usage from the three counts of a settlement request (§7.5); None without a count."""
    counts = _complete(whole_tokens(prompt), whole_tokens(completion), whole_tokens(total))
    return None if counts is None else Usage(*counts)


def _complete(
    prompt: int | None, completion: int | None, total: int | None
) -> tuple[int | None, int | None, int] | None:
    """Fill what follows from the rest: embeddings report no completion."""
    if prompt is completion is None:
        return None if total is None else (None, None, total)
    if prompt is None:
        prompt = max(0, (total or 0) - (completion or 0))
    elif completion is None:
        completion = max(0, (total or 0) - prompt)
    return prompt, completion, prompt + (completion or 0) if total is None else total


def _first(value: dict[str, object], *names: str) -> int | None:
    for name in names:
        if (count := whole_tokens(value.get(name))) is not None:
            return count
    return None


def _count(value: dict[str, object], name: str) -> int:
    return whole_tokens(value.get(name)) or 0


def _object(value: dict[str, object], name: str) -> dict[str, object]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _modality(value: dict[str, object], name: str, modality: str) -> int:
    return sum(
        _count(detail, "tokenCount")
        for detail in objects(value.get(name))
        if detail.get("modality") == modality
    )
