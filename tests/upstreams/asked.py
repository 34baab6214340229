"""What a request asks of the upstream, in any format, and what that costs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PROMPT = 7
IMAGE = 85
"""Prompt tokens of a picture, beside the `PROMPT` of any request."""
WORD = "tok "
ARGUMENTS = ('{"ci', 'ty":', ' "Os', 'lo"}')
"""A tool call's arguments, token by token."""
THOUGHTS = ("so, ", "hmm ", "now ")

Source = list[tuple[bytes, int]]
"""Events of a stream, each with what it adds to the bill."""


@dataclass(frozen=True)
class Asked:
    """One request: its JSON, where it went, completion tokens wanted, prompt tokens from a cache.

    `bare`: no usage is reported. `server`: the OpenAI-compatible server that answers.
    """

    data: dict[str, Any]
    target: str
    count: int
    cached: int = 0
    bare: bool = False
    server: str = ""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def prompt(self) -> int:
        """Prompt tokens."""
        return PROMPT + IMAGE * sum(_is_picture(each) for each in objects(self.data))

    @property
    def tools(self) -> list[str]:
        """Names of the tools on offer; the model calls each of them once."""
        return [
            each["name"]
            for tool in self.data.get("tools") or []
            for each in tool.get("functionDeclarations") or [tool.get("function", tool)]
        ]

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        return self.data.get("stream") is True or ":stream" in self.target


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            yield from objects(each)


def _is_picture(value: dict[str, Any]) -> bool:
    return value.get("type") in {"image_url", "input_image", "image"} or "inlineData" in value


def sse(value: object, name: str = "") -> bytes:
    """Render one server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()
