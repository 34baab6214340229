"""A process that this program did not start."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable

import pytest
import uvloop

from daemon.supervisor.adopted import AdoptedProcess


async def soon(what: Awaitable[int]) -> int:
    return await asyncio.wait_for(what, 30)


@pytest.mark.parametrize(("how", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", -9)])
def test_its_end_is_noticed_and_its_code_known(how: str, code: int) -> None:
    program = f"import os, sys\nsys.stdin.read()\n{how}"

    async def scene() -> None:
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)  # noqa: ASYNC220 - it is at once there
        waits = asyncio.ensure_future(AdoptedProcess(process.pid).wait())
        assert process.stdin is not None
        process.stdin.close()
        assert await soon(waits) == code
        process.returncode = code  # it has been waited for already

    uvloop.run(scene())


def test_it_can_be_killed_and_one_that_is_not_there_is_over() -> None:
    async def scene() -> None:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # noqa: ASYNC220 - as above
        adopted = AdoptedProcess(process.pid)
        adopted.kill()
        assert await soon(adopted.wait()) == -signal.SIGKILL
        process.returncode = -signal.SIGKILL
        assert await soon(adopted.wait()) == 0
        with pytest.raises(ProcessLookupError):
            adopted.kill()

    uvloop.run(scene())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
