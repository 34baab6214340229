"""What is said between an upstream's connection and whoever asked it something."""

from typing import Literal, Protocol

from daemon.front.plain_responses import PlainResponse
from daemon.front.upstream_headers import Headers

Failure = Literal["unreachable", "unanswered", "timeout", "broken"]
"""No connection, none that was answered, no answer in time, or one that broke off or made no sense
(then perhaps in its middle)."""


class ResponseHead:
    """Status line and fields of a response. `length` is its Content-Length, None without one.

    `names_nothing`: no `Connection` field names others that stay behind. `plain` is the response
    where it was plain and whole: then `headers` are read from it when they are asked for.
    """

    __slots__ = ("_headers", "length", "names_nothing", "plain", "reason", "status")

    def __init__(  # noqa: PLR0913 - one value per part of a head
        self,
        status: int,
        reason: bytes,
        headers: Headers,
        length: int | None,
        *,
        names_nothing: bool = False,
        plain: PlainResponse | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self._headers = headers
        self.length = length
        self.names_nothing = names_nothing
        self.plain = plain

    @classmethod
    def of(cls, plain: PlainResponse) -> "ResponseHead":
        """Return the head of a plain response."""
        start, length = plain.start, len(plain.body)
        return cls(start.status, start.reason, [], length, names_nothing=True, plain=plain)

    @property
    def headers(self) -> Headers:
        """Names and values as sent."""
        if self.plain is not None and not self._headers:
            self._headers = [(field.name, field.value) for field in self.plain.fields]
        return self._headers


class Caller(Protocol):
    """Whoever asked an upstream; after a whole response, its end, or a failure nothing follows."""

    def upstream_sent(self) -> None:
        """Hear that the request (its head and known body) is on its way."""

    def upstream_head(self, head: ResponseHead, *, more: bool) -> "Recipient":
        """Take the response's head and return who takes the rest, and is the caller from now on.

        `more`: some of the body, or the end, follows at once.
        """
        ...

    def upstream_plain(self, plain: PlainResponse) -> None:
        """Take a whole response, instead of its head, body and end."""

    def upstream_failed(self, failure: Failure) -> None:
        """Hear that there will be no complete response."""

    def upstream_full(self) -> None:
        """Hear that the upstream does not take the body as fast as it comes."""

    def upstream_drained(self) -> None:
        """Hear that the upstream takes more."""


class Recipient(Caller, Protocol):
    """A caller who takes a response's body as it comes."""

    def upstream_data(self, data: bytes) -> None:
        """Take a piece of its body."""

    def upstream_chunk(self, framed: bytes, start: int) -> None:
        """Take a piece of its body that came as one chunk, whose content begins at `start`."""

    def upstream_end(self) -> None:
        """Hear that the response is complete."""
