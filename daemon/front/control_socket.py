"""The socket on which a front hears what the supervisor says."""

import asyncio
from typing import Protocol

from protocol import control
from protocol.frames import FrameReader


class Front(Protocol):
    """Whoever obeys."""

    def attached(self, transport: asyncio.Transport) -> None:
        """Take the way to the supervisor."""

    def hear(self, message: list[object]) -> None:
        """Do what the supervisor says."""

    def die(self, words: bytes) -> None:
        """End at once, and say why."""

    def orphaned(self) -> None:
        """Hear that the supervisor is gone."""


class ControlSocket(asyncio.Protocol):
    """The front's side of the socket pair."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the way back to the front."""
        self._front.attached(transport)  # type: ignore[arg-type]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        """Hand every message to the front."""
        try:
            for message in self._reader.feed(data):
                self._front.hear(message)
        except Exception as error:  # noqa: BLE001 - the last thing this process does
            # A front that does not do as it is told must be replaced, not linger half switched.
            self._front.die(control.last_words(error))

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell the front that it is alone."""
        self._front.orphaned()
