"""Usage of a whole response, with the error names of behaviour §11.1."""

from collections.abc import Sequence
from typing import Literal

import orjson

from daemon.llm.meter import reader_for
from daemon.llm.providers import Family
from daemon.llm.sse import SseSplitter
from daemon.llm.stream_format import parse
from daemon.llm.usage import READERS
from protocol.usage import Usage, whole_tokens

MAX_PARSEABLE_BODY_BYTES = 1_048_576

UsageError = Literal["body_too_large", "json_parse_error", "usage_not_found"]

_DEFAULT_PATHS: dict[Family, tuple[str, ...]] = {
    "openai": ("$.usage", "$.response.usage"),
    "anthropic": ("$.usage", "$.message.usage"),
    "gemini": ("$.usageMetadata",),
}


def extract(
    family: Family,
    body: bytes,
    json_paths: Sequence[str] = (),
    max_bytes: int = MAX_PARSEABLE_BODY_BYTES,
) -> Usage | UsageError:
    """Return the usage of a JSON response, or the name of the error.

    `json_paths` (`$.a.b`) replace the family's own place and are tried in order. A Gemini stream
    kept as a JSON array is read from its last element.
    """
    if len(body) > max_bytes:
        return "body_too_large"
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "json_parse_error"
    for element in reversed(value) if isinstance(value, list) else (value,):
        if (usage := _at_paths(family, element, json_paths or _DEFAULT_PATHS[family])) is not None:
            return usage
    return "usage_not_found"


def extract_sse(
    family: Family, stream: bytes, json_paths: Sequence[str] = ()
) -> Usage | UsageError:
    """Return the usage of a whole event stream, or the name of the error."""
    splitter = SseSplitter()
    reader = reader_for(family)
    found: Usage | None = None
    for _, data, _ in (*splitter.feed(stream), *splitter.end()):
        if data is None:
            continue
        if json_paths:
            found = _at_paths(family, parse(data), json_paths) or found
        else:
            reader.read(data)
    return (found if json_paths else reader.usage) or "usage_not_found"


def _at_paths(family: Family, value: object, paths: Sequence[str]) -> Usage | None:
    for path in paths:
        found = _at(value, path)
        if isinstance(found, dict):
            usage = READERS[family](found)
        else:
            total = whole_tokens(found)
            usage = None if total is None else Usage(total=total)
        if usage is not None:
            return usage
    return None


def _at(value: object, path: str) -> object:
    """Return what stands at `$.a.b`; None if nothing does."""
    for name in path.removeprefix("$").split(".")[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
