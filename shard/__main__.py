"""Start one shard; the supervisor's command line, not for people."""

import os
import sys

from protocol import control


def main() -> None:
    """Run the shard that the arguments describe; tell the supervisor if that fails."""
    index, control_fd, listen_fd = map(int, sys.argv[1:])
    try:
        # What cannot be imported is to be told, too.
        from shard.server import run  # noqa: PLC0415
        from shard.stores.folder import StateError  # noqa: PLC0415

        try:
            run(index, control_fd, listen_fd)
        except StateError as error:
            os.write(control_fd, control.last_line(str(error)))
            sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last thing this process does
        os.write(control_fd, control.last_words(error))
        sys.exit(1)


main()
