"""A shard that is told to end does what it was sent before, and answers it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from protocol import control
from protocol.frames import DECIDE, HELLO, FrameReader, pack
from protocol.operations import RuleSpec
from tests.end_with_us import KILLED

SECONDS = 30.0
FRAMES = 8000
NOW = 1_770_000_000_000_000
PARAMS: dict[str, int | str | bool | None] = {"rate_num": 1, "rate_den": 1, "burst": 10**9}
SPEC = RuleSpec("token_bucket", "enforce:0:p:r", 0, shadow=False, params=PARAMS)


def test_what_was_sent_before_the_end_is_answered(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as link,
    ):
        listener.bind(path)
        listener.listen()
        fds = (theirs.fileno(), listener.fileno())
        command = [*KILLED, sys.executable, "-m", "shard", "0", *map(str, fds)]
        shard = subprocess.Popen(command, pass_fds=fds)
        try:
            for sock in (ours, link):
                sock.settimeout(SECONDS)
            settings = {
                "memory": 1 << 26,
                "reservation_ttl": 10**9,
                "max_reservations": 1000,
                "store": None,
            }
            ours.sendall(pack([control.CONFIGURE, settings]))
            ours.sendall(pack([control.BUNDLE, 1, [SPEC.to_wire()], 1]))
            assert ours.recv(100) == pack([control.PREPARED, 1])
            link.connect(path)
            link.sendall(pack([HELLO, b"l" * 16, 0, 0]))
            assert link.recv(100)
            os.kill(shard.pid, signal.SIGSTOP)
            asked = b"".join(pack([DECIDE, 1, NOW, [[0, f"k{n}", 1]]]) for n in range(FRAMES))
            sent = link.send(asked[: 3 << 16])  # more than one read takes
            assert sent > 1 << 16
            ours.sendall(pack([control.DRAIN]))
            os.kill(shard.pid, signal.SIGCONT)
            assert answers(link) == len(FrameReader().feed(asked[:sent]))
            assert shard.wait(SECONDS) == 0
        finally:
            shard.kill()
            shard.wait()


def answers(link: socket.socket) -> int:
    """Return how many replies come before the end."""
    reader = FrameReader()
    count = 0
    while data := link.recv(1 << 16):
        count += len(reader.feed(data))
    return count
