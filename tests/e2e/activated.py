"""Start a program as systemd does with a socket unit: descriptors from 3 on, for this process.

Arguments: the names, the descriptors (comma lists), whose they are (0: the program's), the program.
"""

import os
import sys

FIRST = 3

names, numbers, owner, *program = sys.argv[1:]
fds = [os.dup(int(number)) for number in numbers.split(",")]
high = [os.dup2(fd, 100 + at, inheritable=False) for at, fd in enumerate(fds)]
for at, fd in enumerate(high):
    os.dup2(fd, FIRST + at)
os.environ |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names}
os.environ["LISTEN_PID"] = owner if owner != "0" else str(os.getpid())
os.execv(program[0], program)  # noqa: S606 - the very program
