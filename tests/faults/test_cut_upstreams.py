"""An upstream whose answer ends at every byte, by a close and by a reset (§10, §11.2)."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e.conftest import Daemon, _starter, wait_for
from tests.faults.stage import LATE
from tests.upstreams.serving import Serving

_BODY = b'{"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}'
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_EVENT = b'data: {"choices":[{"delta":{"content":"tok "}}]}\n\n'
ANSWERS = {
    "a length": _JSON + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY,
    "chunks": _JSON + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(_BODY), _BODY,
    ),
    "a stream": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(_EVENT), _EVENT),
}  # fmt: skip
_CUT = re.compile(rb"\r\nX-Cut: (\d+) (close|reset) ([a-z ]+)\r\n", re.IGNORECASE)


async def cutting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say so many bytes of an answer and end the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    await reader.readexactly(int(length[1]) if length else 0)
    cut = _CUT.search(head)
    assert cut is not None
    writer.write(ANSWERS[cut[3].decode()][: int(cut[1])])
    await writer.drain()
    if cut[2] == b"reset":
        writer.transport.abort()


@pytest.fixture(name="daemon", scope="module")
def _daemon() -> Iterator[Daemon]:
    tokens = {
        "name": "tokens",
        "limit_keys": ["ip:address"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 10**9, "default_max_completion": 100},
    }
    policy = {"id": "llm", "spec": {"selector": {"pathPrefix": "/"}, "rules": [tokens]}}
    with ExitStack() as stack:
        upstream = Serving(cutting)
        stack.callback(upstream.stop)
        yield _starter(stack)(
            {"bundle_version": 1, "policies": [policy]},
            mode="wrapper",
            wrapper_auth="passthrough",
            provider_openai_url=f"http://127.0.0.1:{upstream.port}",
        )


def ask(daemon: Daemon, how: str, *, stream: bool) -> bytes:
    document = {"messages": [{"role": "user", "content": "hello"}], "stream": stream}
    body = json.dumps(document).encode()
    with daemon.connect() as connection:
        connection.send(
            b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer key\r\n"
            b"X-Cut: %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (how.encode(), len(body), body)
        )
        answer: bytes = connection.rest()
    return answer


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_ends_at_every_byte(daemon: Daemon, name: str) -> None:
    whole = ANSWERS[name]
    seen: Counter[int] = Counter()
    for length in range(len(whole) + 1):
        how = "reset" if length % 2 else "close"
        answer = ask(daemon, f"{length} {how} {name}", stream=name == "a stream")
        status = int(answer[9:12])
        seen[status] += 1
        head, _, body = answer.partition(b"\r\n\r\n")
        if status == 502:
            assert length <= len(whole.partition(b"\r\n\r\n")[0]) + 4
            assert b"X-Fairvisor-Reason: upstream_" in head
            continue
        assert status == 200
        # What the client gets is a beginning of the answer, and never looks whole when it is not.
        if length < len(whole) - 7:
            assert not is_whole(head, body), (length, answer)
    assert is_whole(head, body)
    assert set(seen) == {200, 502}
    wait_for(lambda: settled(daemon), LATE, "every reservation is settled")
    assert daemon.process.poll() is None


def is_whole(head: bytes, body: bytes) -> bool:
    """Return whether a client would take an answer for complete."""
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def settled(daemon: Daemon) -> bool:
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    found: list[Any] = re.findall(r"^fairvisor_reservations\{.*\} (\S+)$", text, re.MULTILINE)
    return bool(found) and not any(map(float, found))
