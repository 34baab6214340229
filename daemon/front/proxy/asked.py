"""What a request says about its response."""

import msgspec

from daemon.engine.stream_caps import StreamCaps
from daemon.llm.providers import Family
from daemon.llm.request import LlmRequest, is_stream


class Asked(msgspec.Struct, frozen=True):
    """The parts of a request that decide how its response is read and passed on.

    `modern`: the client takes chunks (HTTP/1.1). `metered`: a reservation or a cap depends on what
    comes back. `hide_usage`: the daemon asked for the usage chunk, not the client.
    """

    method: str
    path: str
    accept: str
    modern: bool
    family: Family | None
    llm: LlmRequest | None = None
    caps: StreamCaps | None = None
    hide_usage: bool = False

    @property
    def metered(self) -> bool:
        """Whether the response has to be read."""
        return self.family is not None and self.caps is not None

    def streams(self, content_type: str) -> bool:
        """Return whether a response is a stream (§11.3)."""
        return is_stream(self.llm or LlmRequest(), self.path, self.accept, content_type)
