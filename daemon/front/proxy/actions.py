"""What a proxied exchange wants done; the relay does it, in order.

Structs, because every piece of an answer is one: a frozen dataclass costs five times as much.
"""

from typing import Literal, TypeAlias

import msgspec

from daemon.llm.extraction import UsageError
from protocol.usage import Usage


class Forward(msgspec.Struct, frozen=True):
    """Send the request upstream."""


class Wait(msgspec.Struct, frozen=True):
    """Come back after so many seconds."""

    seconds: float


class Respond(msgspec.Struct, frozen=True):
    """Answer the client at once; `head` is without Connection and the empty line."""

    head: bytes
    body: bytes


class Open(msgspec.Struct, frozen=True):
    """Begin the client's answer; `close`: the end of the connection ends its body."""

    head: bytes
    close: bool = False


class Send(msgspec.Struct, frozen=True):
    """Write bytes of the client's answer, framed."""

    data: bytes


class End(msgspec.Struct, frozen=True):
    """End the client's answer."""


class Abort(msgspec.Struct, frozen=True):
    """Cut the client off, so that it knows that its answer is incomplete."""


class CloseUpstream(msgspec.Struct, frozen=True):
    """Stop the upstream, which has more to say."""


class Settle(msgspec.Struct, frozen=True):
    """Settle the reservation with what was used; None gives all of it back."""

    usage: Usage | None


class Keep(msgspec.Struct, frozen=True):
    """Leave the reservation charged: what was used cannot be known. Happens instead of `Settle`."""

    why: "Unknown"


class Truncated(msgspec.Struct, frozen=True):
    """Tell that the stream was cut at so many counted tokens."""

    counted: int


Unknown: TypeAlias = Literal[
    UsageError, "compressed", "response_broken", "client_gone", "not_metered"
]
"""Why nobody can say what an exchange used."""

Action: TypeAlias = (
    Forward | Wait | Respond | Open | Send | End | Abort | CloseUpstream | Settle | Keep | Truncated
)
Actions: TypeAlias = list[Action]
