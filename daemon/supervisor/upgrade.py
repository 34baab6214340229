"""From one version of the program to the next, under the same process id (§13.4).

Rules
- First the program that is installed now is asked whether it could start with what is here. If not,
  nothing has happened.
- Fronts take no more connections and say when no decision is waited for; connections that come wait
  in the listeners, which stay open throughout. Fronts that still have something under way finish it
  as children of the next program.
- Shards end before the next program begins, and what they were last asked is answered and stored.
  What fronts are asked until then is held back until the next shards are there.
- Signals wait, too: they are blocked until the next program listens to them.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from daemon.supervisor import handover
from daemon.supervisor.children import Child
from daemon.supervisor.handover import Handover
from protocol import control

CHECK_SECONDS = 60.0
RETIRE_SECONDS = 20.0
END_SECONDS = 20.0
_POLL_SECONDS = 0.005
_MAX_SAID = 1 << 16
_COMPLAINTS = ("Error: ", "fairvisor: ")
WAITING = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR2})
"""Signals that wait from one program to the next."""


async def objection(left: Handover) -> str:
    """Return why the program that is installed now could not go on, "" if it could."""
    record = handover.leave(left)
    try:
        process = await asyncio.create_subprocess_exec(
            *_program(),
            "--check",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, handover.VARIABLE: str(record)},
            pass_fds=(record,),
        )
    except OSError as error:
        return f"{sys.executable} cannot be started: {os.strerror(error.errno or 0)}"
    finally:
        os.close(record)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            _, said = await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return f"its check took longer than {CHECK_SECONDS:.0f} s"
    if process.returncode == 0:
        return ""
    return _complaint(said[-_MAX_SAID:].decode(errors="replace")) or (
        f"its check ended with {process.returncode}"
    )


def _complaint(said: str) -> str:
    """Return the last line with which a program that cannot start says why."""
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    reasons = [line for line in lines if line.startswith(_COMPLAINTS)]
    line = (reasons or lines or [""])[-1]
    for beginning in _COMPLAINTS:
        line = line.removeprefix(beginning)
    return line.partition("; please report")[0]


async def retire(fronts: Sequence[Child]) -> None:
    """Have fronts take nothing new, until no decision is waited for; replace nobody."""
    for front in fronts:
        front.release()
        front.tell(control.RETIRE)
    slow = await _until(fronts, lambda front: front.retired or front.pid is None, RETIRE_SECONDS)
    for front in slow:
        front.kill()  # it does not even answer


async def end(children: Sequence[Child]) -> None:
    """Wait for the end of children that were told to go; make it, if they do not."""
    for child in await _until(children, lambda child: child.pid is None, END_SECONDS):
        child.kill()
    await asyncio.gather(*[child.gone() for child in children])


async def _until(
    children: Sequence[Child], done: Callable[[Child], bool], seconds: float
) -> list[Child]:
    """Return the children that are not done in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (  # noqa: ASYNC110 - many things make it so
        left := [child for child in children if not done(child)]
    ) and loop.time() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
    return left


def replace(left: Handover, inherited: Iterable[int], environ: Mapping[str, str]) -> NoReturn:
    """Become the program that is installed now.

    Raises:
        OSError: it is not there; signals are no longer blocked.
    """
    logging.shutdown()
    for fd in inherited:
        os.set_inheritable(fd, True)  # noqa: FBT003 - as the standard library has it
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)
    record = handover.leave(left)
    try:
        os.execve(sys.executable, _program(), {**environ, handover.VARIABLE: str(record)})  # noqa: S606 - ourselves
    finally:
        os.close(record)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING)


def _program() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]
