"""Prompt estimates before a request is sent (behaviour §5.6, §7.4).

| body       | simple_word             | header_hint            | tokenizer                       |
|------------|-------------------------|------------------------|---------------------------------|
| none       | the hint, else 0        | the hint, else 0       | the hint, else 0                |
| `messages` | ceil(content bytes / 4) | the hint, else as left | tokens of all texts and media   |
| other JSON | ceil(body bytes / 4)    | the hint, else as left | the same; simple_word if the    |
|            |                         |                        | format has none of its fields   |
| not JSON   | ceil(body bytes / 4)    | the hint, else as left | as simple_word                  |

The hint is a numeric `X-Token-Estimate` of a trusted peer; the caller passes None for anyone else.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal

from daemon.llm import anthropic, gemini, openai
from daemon.llm.prompt import Prompt
from daemon.llm.providers import Family
from daemon.llm.request import LlmRequest
from daemon.llm.tokens import TokenCounter, counter
from protocol.bundle import Estimator
from protocol.usage import MAX_TOKENS

BYTES_PER_TOKEN = 4

_HINT = re.compile(rb"[ \t]*\+?(\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE]([+-]?\d{1,3}))?[ \t]*")

_READERS: dict[Family, Callable[[dict[str, object]], Prompt]] = {
    "openai": openai.prompt,
    "anthropic": anthropic.prompt,
    "gemini": gemini.prompt,
}


def prompt_tokens(
    estimator: Estimator,
    request: LlmRequest,
    hint: bytes | None = None,
    family: Family | None = None,
    load_counter: Callable[[str | None], TokenCounter] = counter,
) -> int:
    """Return the prompt estimate in tokens.

    `hint` is the raw header of a trusted peer, `family` the wire format of the request (None =
    told by its fields), `load_counter` gives the BPE counter for a model.
    """
    hinted = None if hint is None else parse_hint(hint)
    if not request.body:
        return hinted or 0
    if estimator == "header_hint" and hinted is not None:
        return hinted
    if estimator == "tokenizer" and isinstance(request.data, dict):
        found = _READERS[family or _guess(request.data)](request.data)
        if found.known:
            count = load_counter(request.model)
            return found.media_tokens + sum(count(text) for text in found.texts)
    return simple_word(request)


def simple_word(request: LlmRequest) -> int:
    """Return a quarter of the bytes that count, rounded up once."""
    messages = request.data.get("messages") if isinstance(request.data, dict) else None
    if isinstance(messages, list):
        return -(-openai.content_bytes(messages) // BYTES_PER_TOKEN)
    return -(-len(request.body) // BYTES_PER_TOKEN)


def parse_hint(value: bytes) -> int | None:
    """Return a decimal number of a header as tokens, rounded up; None if it is not one."""
    found = _HINT.fullmatch(value)
    if not found:
        return None
    number = Decimal(found[1].decode()).scaleb(int(found[2] or 0))
    return math.ceil(number) if number < MAX_TOKENS else MAX_TOKENS


def _guess(body: dict[str, object]) -> Family:
    if "contents" in body or "requests" in body:
        return "gemini"
    return "anthropic" if "system" in body else "openai"
