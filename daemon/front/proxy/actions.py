"""What a proxied exchange wants done; the relay does it, in order."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from daemon.llm.extraction import UsageError
from protocol.usage import Usage


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request upstream."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Come back after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer the client at once; `head` is without Connection and the empty line."""

    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """Begin the client's answer; `close`: the end of the connection ends its body."""

    head: bytes
    close: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Write bytes of the client's answer, framed."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """End the client's answer."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Cut the client off, so that it knows that its answer is incomplete."""


@dataclass(frozen=True, slots=True)
class CloseUpstream:
    """Stop the upstream, which has more to say."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Settle the reservation with what was used; None gives all of it back."""

    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave the reservation charged: what was used cannot be known. Happens instead of `Settle`."""

    why: "Unknown"


@dataclass(frozen=True, slots=True)
class Truncated:
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
