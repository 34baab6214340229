"""Start one front; the supervisor's command line, not for people."""

import os
import sys

from daemon.front.process import Role, run
from daemon.settings import load


def main() -> None:
    """Read the role that the supervisor passed and serve."""
    index, control_fd, listen_fds, *shard_paths = sys.argv[1:]
    role = Role(
        index=int(index),
        control_fd=int(control_fd),
        listen_fds=tuple(map(int, listen_fds.split(","))),
        shard_paths=tuple(shard_paths),
    )
    run(role, load(os.environ))


main()
