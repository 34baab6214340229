"""What the meter needs to know of a family's stream: one reader per family."""

from typing import NamedTuple, Protocol

import orjson

from protocol.bundle import Streaming
from protocol.usage import Usage


class Delta(NamedTuple):
    """What one event adds: text of the model, and how much of the event the client must not see.

    `hidden`: nothing of it. `null_usage`: its `"usage":null`, which is there because of our asking.
    `alike`: the event has nothing else to tell, nor would it with another text.
    """

    text: str = ""
    hidden: bool = False
    null_usage: bool = False
    alike: bool = False


NOTHING = Delta()


class Reader(Protocol):
    """Reads the events of one stream, in order.

    `usage` is the best figure reported so far; `final` says that it covers the whole answer, and
    `done` that the end marker has passed.
    """

    usage: Usage | None
    final: bool
    done: bool

    def read(self, data: bytes) -> Delta:
        """Read the payload of one event; anything unknown or malformed is `NOTHING`."""

    def close(self, prompt: int, completion: int, how: Streaming) -> bytes:
        """Return what ends the stream for the client after a cut (§11.3)."""


def parse(data: bytes) -> dict[str, object] | None:
    """Return the JSON object of an event; None for anything else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def sse(value: object, name: str = "") -> bytes:
    """Render one event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(value) + b"\n\n"


def text_of(*values: object) -> str:
    """Join those values that are texts."""
    return "".join(value for value in values if isinstance(value, str))
