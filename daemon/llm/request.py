"""A request body, read once: JSON, model, requested maximum, stream or not (behaviour §5.6, §4.3).

Every function takes any JSON value: bodies come from strangers.
"""

import json
import math
from urllib.parse import unquote

import msgspec
import orjson

from daemon.llm.providers import model_in_path
from protocol.usage import MAX_TOKENS

_MAXIMUM_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# The Gemini API takes both spellings, so a maximum must not hide behind the second.
_GEMINI_CONFIGS = ("generationConfig", "generation_config")
_GEMINI_MAXIMA = ("maxOutputTokens", "max_output_tokens")


class LlmRequest(msgspec.Struct, frozen=True):
    """What limits need of a request.

    `body` is what counts for estimates (b"" = no body), `data` its JSON value or None. `model` is
    None if missing. `maximum` is the requested completion maximum in whole tokens (rounded up, at
    most 2^53), None if there is none. `stream` is the body's own wish.
    """

    body: bytes = b""
    data: object = None
    model: str | None = None
    maximum: int | None = None
    stream: bool = False


def read(body: bytes, path: str, *, json_only: bool = False) -> LlmRequest:
    """Read a body sent to `path` (without query).

    `json_only` is the rule of decision requests (§7.4): a body that is not JSON is as good as none.
    """
    data = parse_json(body) if body else None
    if data is None and json_only:
        body = b""
    return LlmRequest(
        body=body,
        data=data,
        model=model_of(data, path),
        maximum=requested_maximum(data),
        stream=isinstance(data, dict) and data.get("stream") is True,
    )


def parse_json(body: bytes) -> object:
    """Return the JSON value of `body`; None if it is not JSON (or is `null`)."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    if b"\\u" not in body:
        return None
    # Escaped lone surrogates are legal JSON (RFC 8259 §8.2) that orjson refuses: without this a
    # client could hide its model and maximum behind one.
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value


def model_of(data: object, path: str) -> str | None:
    """Return the value of `llm:model`; None if it is missing.

    On a generate-content path the path decides, since it does so upstream.
    """
    if (in_path := model_in_path(path)) is not None:
        return in_path
    model = data.get("model") if isinstance(data, dict) else None
    return model if isinstance(model, str) and model else None


def requested_maximum(data: object) -> int | None:
    """Return the first positive maximum of §5.6, in whole tokens; None without one."""
    if not isinstance(data, dict):
        return None
    for name in _MAXIMUM_FIELDS:
        if (found := _positive(data.get(name))) is not None:
            return found
    for name in _GEMINI_CONFIGS:
        config = data.get(name)
        if isinstance(config, dict):
            for field in _GEMINI_MAXIMA:
                if (found := _positive(config.get(field))) is not None:
                    return found
    return None


def is_stream(request: LlmRequest, path: str, accept: str, content_type: str) -> bool:
    """Tell whether a response is a stream (§11.3).

    `accept` is the request's header, `content_type` the response's; both "" if absent. A Gemini
    `:streamGenerateContent` answer is a stream even as a JSON array (§11.1).
    """
    return (
        content_type.lower().startswith("text/event-stream")
        or "text/event-stream" in accept.lower()
        or request.stream
        or unquote(path).endswith(":streamGenerateContent")
    )


def _positive(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not value > 0:  # also refuses NaN
        return None
    return math.ceil(min(value, MAX_TOKENS))
