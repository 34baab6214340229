"""Start one shard; the supervisor's command line, not for people."""

import os
import sys

from protocol import control


def main() -> None:
    """Run the shard that the arguments describe; tell the supervisor if that fails."""
    index, control_fd, listen_fd = map(int, sys.argv[1:])
    try:
        from shard.server import run  # noqa: PLC0415 - what cannot be imported is to be told, too

        run(index, control_fd, listen_fd)
    except Exception as error:  # noqa: BLE001 - the last thing this process does
        os.write(control_fd, control.last_words(error))
        sys.exit(1)


main()
