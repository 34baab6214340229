"""Send generated requests for so many seconds: `python -m tests.faults.malformed_client …`.

Every request has a connection of its own, and most close their side behind it, so that the daemon
has no reason to wait. Prints what came back as JSON.
"""

import json
import re
import socket
import struct
import sys
import time
from collections import Counter
from itertools import islice

from tests.faults.blobs import blobs

AT_ONCE = 32
PATIENCE = 60.0
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
REASON = re.compile(rb'X-Fairvisor-Reason: ([a-z_]+)|"error":"([^"]+)"')
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


def main() -> None:
    """Send until the time is over or enough was sent."""
    where, seed, seconds, most = sys.argv[1], *map(float, sys.argv[2:5])
    address = where if where.startswith("/") else ("127.0.0.1", int(where))
    outcomes: Counter[str] = Counter()
    source = blobs(int(seed))
    end = time.monotonic() + seconds
    while time.monotonic() < end and outcomes.total() < most:
        wave = [(blob, opened(address)) for blob in islice(source, AT_ONCE)]
        for number, (blob, sock) in enumerate(wave):
            _send(sock, blob, leaves=number % 8 == 0)
        for number, (blob, sock) in enumerate(wave):
            with sock:
                if number % AT_ONCE == 0:
                    outcomes["left at once"] += 1
                else:
                    outcomes[outcome(blob, _rest(sock))] += 1
    print(json.dumps(outcomes))  # noqa: T201 - that is what it is for


def opened(address: str | tuple[str, int]) -> socket.socket:
    """Return a connection that leaves no trace in the system when it is closed."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect(address)
    if family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    return sock


def _send(sock: socket.socket, blob: bytes, *, leaves: bool) -> None:
    try:
        half = len(blob) // 2 if leaves else 0  # in two pieces
        if half:
            sock.sendall(blob[:half])
        sock.sendall(blob[half:])
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it was refused before it was sent whole


def _rest(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65_536):
            data += piece
    except ConnectionError:
        pass
    return data


def outcome(blob: bytes, answer: bytes) -> str:
    """Return what an answer is: its worst status, and the reason of a 5xx.

    Raises:
        AssertionError: it is not HTTP.
    """
    if not answer:
        return "silence"
    assert ANSWER.match(answer), (blob, answer)
    worst = max(int(status) for status in ANSWER.findall(answer))
    if worst < 500:
        return str(worst)
    at = answer.index(b"HTTP/1.1 %d " % worst)
    found = REASON.search(answer, at)
    reason = (found[1] or found[2]).decode() if found else repr(blob)
    return f"{worst} {reason}"


if __name__ == "__main__":
    main()
