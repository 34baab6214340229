"""Limits are exact over all processes, whichever front takes a request (behaviour §13.1)."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

CONNECTIONS = 64
REFILL = 0.001
"""Tokens per second: less than one in the time a test takes."""


class Caller(asyncio.Protocol):
    """One keep-alive connection that sends its next request when the last is answered."""

    def __init__(self, keys: Iterator[str], seen: Counter[tuple[str, int]]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._keys = keys
        self._seen = seen
        self._key = ""
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's
        self._ask()

    def _ask(self) -> None:
        key = next(self._keys, None)
        if key is None:
            self._transport.close()
            return
        self._key = key
        self._transport.write(
            b"GET /v1/decision HTTP/1.1\r\nHost: a\r\nX-Original-URI: /key/\r\n"
            b"X-API-Key: %s\r\n\r\n" % key.encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < size:
            return
        assert len(rest) == size
        self._buffer = b""
        self._seen[self._key, int(head[9:12])] += 1
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


async def call(port: int, keys: Iterator[str]) -> Counter[tuple[str, int]]:
    """Send one request per key over many connections; count statuses by key."""
    loop = asyncio.get_running_loop()
    seen: Counter[tuple[str, int]] = Counter()
    callers = [
        (await loop.create_connection(lambda: Caller(keys, seen), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.wait_for(asyncio.gather(*[caller.done for caller in callers]), 60)
    return seen


def test_one_key(serve: Callable[..., Any], bucket_policy: Callable[..., object]) -> None:
    policy = bucket_policy("one", "/key/", "header:x-api-key", REFILL, 1000)
    bundle = {"bundle_version": 1, "policies": [policy]}
    daemon = serve(bundle, worker_processes=2, shards=3)
    began = time.monotonic()
    seen = uvloop.run(call(daemon.port, iter(["k"] * 20_000)))
    assert (time.monotonic() - began) * REFILL < 1
    assert seen == {("k", 200): 1000, ("k", 429): 19_000}


def test_many_keys(serve: Callable[..., Any], bucket_policy: Callable[..., object]) -> None:
    policy = bucket_policy("many", "/key/", "header:x-api-key", REFILL, 5)
    bundle = {"bundle_version": 1, "policies": [policy]}
    daemon = serve(bundle, worker_processes=2, shards=3)
    keys = [f"k{number}" for number in range(1000)]
    seen = uvloop.run(call(daemon.port, iter(keys * 20)))
    assert seen == {(k, status): n for k in keys for status, n in ((200, 5), (429, 15))}


def test_a_refusal_on_one_shard_costs_nothing_on_another(
    serve: Callable[..., Any], bucket_policy: Callable[..., dict[str, Any]]
) -> None:
    """Two policies on keys that live on different shards: 30 in all, 10 of each caller."""
    policies = [
        bucket_policy("1-each", "/key/", "header:x-api-key", REFILL, 10),
        bucket_policy("2-all", "/key/", "header:host", REFILL, 35),
    ]
    bundle = {"bundle_version": 1, "policies": policies}
    daemon = serve(bundle, worker_processes=2, shards=3)
    first = [f"k{number}" for number in range(3)] * 100
    seen = uvloop.run(call(daemon.port, iter(first)))
    assert seen == {(k, s): n for k in first for s, n in ((200, 10), (429, 90))}
    seen = uvloop.run(call(daemon.port, iter(["late"] * 100)))
    assert seen == {("late", 200): 5, ("late", 429): 95}
