"""Starting, restarting and giving up child processes."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import uvloop

from daemon.supervisor.children import MAX_FALSE_STARTS, Child
from protocol import control

SECONDS = 30.0
HEAD = """
import os, socket, sys, time
from protocol import control
from protocol.frames import FrameReader, pack
pair = socket.socket(fileno=int(sys.argv[1]))
"""
READY = "pair.sendall(pack([control.READY]))\n"
UNTIL_TOLD = "pair.recv(100)\n"


class Nursery:
    """Children of one little program, and what they were heard to do."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        path = f"{folder}:{':'.join(filter(None, sys.path))}"
        monkeypatch.setenv("PYTHONPATH", path)
        self.births: list[int | None] = []
        self.ends: list[str] = []
        self.given_up: list[str] = []
        self.heard: list[list[object]] = []

    def child(self, program: str, fds: Sequence[int] = ()) -> Child:
        (self._folder / "little_child.py").write_text(HEAD + program)
        return Child("front 0", "little_child", ("{control}",), fds, self)

    def started(self, child: Child) -> None:
        self.births.append(child.pid)

    def ended(self, _: Child, how: str) -> None:
        self.ends.append(how)

    def hopeless(self, _: Child, why: str) -> None:
        self.given_up.append(why)

    def hear(self, child: Child, message: list[object]) -> None:
        self.heard.append(message)
        if message == [control.READY]:
            child.serves()
        if message[0] == control.FAILED:
            child.last_words = str(message[1])

    def play(self, scene: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await asyncio.wait_for(scene(), SECONDS)

        uvloop.run(run())


@pytest.fixture(name="nursery")
def _nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nursery:
    return Nursery(tmp_path, monkeypatch)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - other processes set no events here
        await asyncio.sleep(0.005)


def test_a_killed_child_is_replaced(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child(READY + UNTIL_TOLD)
        child.start()
        await until(lambda: child.ready)
        first = child.pid
        child.kill()
        await until(lambda: child.ready and child.pid != first)
        child.release()
        child.tell(control.DRAIN)
        await child.gone()
        assert nursery.ends == ["SIGKILL", "exit code 0"]
        assert child.pid is None
        child.kill()  # nothing there; nothing happens

    nursery.play(scene)


def test_what_a_child_says_last_is_heard(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child(READY + "pair.sendall(pack([control.TALLY, 0, 7]) * 1000)\n")
        child.start()
        await until(lambda: nursery.ends)
        assert nursery.heard.count([control.TALLY, 0, 7]) >= 1000
        child.release()
        await child.gone()

    nursery.play(scene)


def test_a_child_that_never_gets_ready_is_given_up(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child(
            "try:\n    import no_such_thing\n"
            "except ImportError as error:\n    pair.sendall(control.last_words(error))\n"
        )
        child.start()
        await child.gone()
        assert nursery.ends == ["exit code 0"] * MAX_FALSE_STARTS
        assert nursery.given_up == ["ModuleNotFoundError: No module named 'no_such_thing'"]

    nursery.play(scene)


def test_without_last_words_the_end_itself_is_told(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child("sys.exit(3)")
        child.start()
        await child.gone()
        assert nursery.given_up == ["exit code 3"]

    nursery.play(scene)


def test_a_child_that_was_ready_once_is_not_given_up(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child(READY)
        child.start()
        await until(lambda: len(nursery.ends) > MAX_FALSE_STARTS)
        assert nursery.given_up == []
        child.release()
        await child.gone()

    nursery.play(scene)


def test_a_child_that_talks_nonsense_is_replaced(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child(READY + "pair.sendall(bytes([255]) * 9)\n" + UNTIL_TOLD)
        child.start()
        await until(lambda: nursery.ends)
        assert nursery.ends == ["SIGKILL"]
        child.release()
        await child.gone()

    nursery.play(scene)


def test_released_while_it_starts(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child(READY + UNTIL_TOLD + "time.sleep(60)\n")
        child.start()
        await asyncio.sleep(0)
        child.release()
        await child.gone()
        assert nursery.ends in ([], ["SIGKILL"])

    nursery.play(scene)


def test_released_while_it_waits_to_be_started_again(nursery: Nursery) -> None:
    async def scene() -> None:
        child = nursery.child(READY)
        child.start()
        await until(lambda: len(nursery.ends) == 4)  # the next wait is 0.4 s or more
        loop = asyncio.get_running_loop()
        began = loop.time()
        child.release()
        await child.gone()
        assert loop.time() - began < SECONDS / 2
        assert len(nursery.ends) <= 5

    nursery.play(scene)


def test_a_process_that_cannot_be_made_is_a_false_start(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        child = nursery.child(READY)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        child.start()
        await child.gone()
        assert nursery.given_up == ["cannot start a process: No such file or directory"]

    nursery.play(scene)


def test_a_child_gets_its_descriptors_and_a_session_of_its_own(nursery: Nursery) -> None:
    ours, theirs = socket.socketpair()

    async def scene() -> None:
        child = nursery.child(
            f"os.write({theirs.fileno()}, str(os.getsid(0) == os.getpid()).encode())\n"
            + READY
            + UNTIL_TOLD,
            (theirs.fileno(),),
        )
        child.start()
        await until(lambda: child.ready)
        child.release()
        child.tell(control.DRAIN)
        await child.gone()

    with ours, theirs:
        nursery.play(scene)
        assert ours.recv(100) == b"True"


def test_children_end_with_their_parent(tmp_path: Path, nursery: Nursery) -> None:
    """A parent that is killed takes its child along: the kernel sees to it."""

    async def scene() -> None:
        report = tmp_path / "pid"
        nursery.child(READY + "time.sleep(60)\n")
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(report))
        await until(lambda: report.exists() and report.read_text())
        orphan = int(report.read_text())
        os.kill(orphan, 0)
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        await until(lambda: not runs(orphan))

    nursery.play(scene)


PARENT = """
import asyncio, pathlib, sys
from daemon.supervisor.children import Child
class Parent:
    def hear(self, child, message):
        pathlib.Path(sys.argv[1]).write_text(str(child.pid))
    def started(self, child): pass
    def ended(self, child, how): pass
    def hopeless(self, child, why): pass
async def main():
    Child("front 0", "little_child", ("{control}",), (), Parent()).start()
    await asyncio.sleep(60)
asyncio.run(main())
"""


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
