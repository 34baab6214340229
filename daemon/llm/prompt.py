"""What a request sends to the model: texts to count, and tokens of the rest (behaviour §5.6).

Constants for media, where a formula needs facts that a request does not hold (the size of a
remote picture, the length of a recording):

| what               | openai                       | anthropic          | gemini             |
|--------------------|------------------------------|--------------------|--------------------|
| image              | 85 low detail, else 765      | 1600               | 258                |
| audio              | 10 a second                  | -                  | 32 a second        |
| video              | -                            | -                  | 263 a second       |
| document (PDF)     | 1500 a page                  | 3000 a page        | 258 a page         |

765 is a 1024 x 1024 picture of four tiles (85 + 4 * 170), 1600 the most that a picture costs after
scaling (width * height / 750). Lengths come from the size of inline data: 16,000 bytes a second of
audio, 250,000 of video, 50,000 a page; a remote file counts as 60 seconds or 10 pages.
Sources: platform.openai.com/docs/guides/images-vision and /guides/audio,
docs.anthropic.com/en/docs/build-with-claude/vision and /pdf-support,
ai.google.dev/gemini-api/docs/tokens.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

AUDIO_BYTES_PER_SECOND = 16_000
VIDEO_BYTES_PER_SECOND = 250_000
BYTES_PER_PAGE = 50_000
REMOTE_SECONDS = 60
REMOTE_PAGES = 10


@dataclass(slots=True)
class Prompt:
    """Texts that the model reads, tokens of the rest, and whether any known field was there."""

    texts: list[str] = field(default_factory=list)
    media_tokens: int = 0
    known: bool = False

    def add_text(self, value: object) -> None:
        """Add a string; anything else is no text."""
        if isinstance(value, str) and value:
            self.texts.append(value)

    def add_json(self, value: object) -> None:
        """Add a value that the model reads as JSON: a tool definition, arguments, a schema."""
        if isinstance(value, str):
            self.add_text(value)
        elif value:
            self.add_text(_as_text(value))


def media_units(base64_data: object, bytes_per_unit: int, remote: int) -> int:
    """Return seconds or pages of inline base64 data, at least 1; `remote` if there is none."""
    if not isinstance(base64_data, str):
        return remote
    return max(1, math.ceil(len(base64_data) * 3 / 4 / bytes_per_unit))


def items(value: object) -> Iterable[object]:
    """Return the items of a JSON array; none of anything else."""
    return value if isinstance(value, list) else ()


def objects(value: object) -> Iterable[dict[str, object]]:
    """Return the objects in a JSON array; none of anything else."""
    return (item for item in items(value) if isinstance(item, dict))


def _as_text(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        # Too deep, lone surrogates, more than 64 bits: strings and numbers alone come near enough.
        return " ".join(_strings(value))


def _strings(value: object) -> Iterable[str]:
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            yield top
        elif isinstance(top, dict):
            stack.extend(top)
            stack.extend(top.values())
        elif isinstance(top, list):
            stack.extend(top)
        elif isinstance(top, int | float) and not isinstance(top, bool):
            yield str(top)
