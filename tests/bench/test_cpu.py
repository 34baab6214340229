import os
import subprocess
import sys

from bench import cpu

STAT = (
    "4242 (fair) visor (x)) S 17 4242 4242 0 -1 4194560 1 2 3 4 "
    "100 20 3 1 20 0 1 0 146759 3133440 393 18446744073709551615"
)


def test_reads_a_name_with_parentheses_and_spaces() -> None:
    assert cpu.parse_stat(STAT) == cpu.Process(pid=4242, parent=17, ticks=124, started=146759)


def test_the_tree_holds_grandchildren_and_their_time() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = cpu.tree(child.pid)
        child.communicate(b"\n", timeout=30)
    assert [process.parent for process in found] == [os.getpid(), child.pid]
    assert cpu.seconds(found[1:]) >= 0.2 - 1 / cpu.TICKS_PER_SECOND
    assert cpu.tree(child.pid) == []


def test_time_of_a_child_that_ended_stays_with_its_parent() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    before = cpu.seconds(cpu.tree(os.getpid()))
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert cpu.seconds(cpu.tree(os.getpid())) - before >= 0.2 - 1 / cpu.TICKS_PER_SECOND
