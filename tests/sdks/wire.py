"""An HTTP client under a vendor's SDK that keeps what came over the wire."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx2


@dataclass
class Wire:
    """What the last exchange brought: status, header fields, and the body's very bytes."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    exchanges: int = 0

    def begin(self, response: httpx2.Response) -> None:
        """Forget the exchange before this one."""
        self.exchanges += 1
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.multi_items()]
        self.body = bytearray()


class _Tee(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, stream: object, body: bytearray) -> None:
        self._stream = stream
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._stream, httpx2.SyncByteStream)
        for piece in self._stream:
            self._body += piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._stream, httpx2.AsyncByteStream)
        async for piece in self._stream:
            self._body += piece
            yield piece

    def close(self) -> None:
        assert isinstance(self._stream, httpx2.SyncByteStream)
        self._stream.close()

    async def aclose(self) -> None:
        assert isinstance(self._stream, httpx2.AsyncByteStream)
        await self._stream.aclose()


def _teed(response: httpx2.Response, wire: Wire) -> httpx2.Response:
    wire.begin(response)
    return httpx2.Response(
        response.status_code,
        headers=response.headers,
        stream=_Tee(response.stream, wire.body),
        extensions=response.extensions,
    )


class _Transport(httpx2.HTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__(verify=False)  # no TLS here, so no certificates to load
        self._wire = wire

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return _teed(super().handle_request(request), self._wire)


class _AsyncTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__(verify=False)  # no TLS here, so no certificates to load
        self._wire = wire

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return _teed(await super().handle_async_request(request), self._wire)


def client(wire: Wire) -> httpx2.Client:
    """Return a blocking client."""
    return httpx2.Client(transport=_Transport(wire), timeout=60)


def async_client(wire: Wire) -> httpx2.AsyncClient:
    """Return a client for asyncio."""
    return httpx2.AsyncClient(transport=_AsyncTransport(wire), timeout=60)
