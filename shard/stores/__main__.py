"""Start the keeper; the supervisor's command line, not for people."""

import os
import sys

from protocol import control


def main() -> None:
    """Keep the folder that the arguments name; tell the supervisor if that fails."""
    control_fd, folder = int(sys.argv[1]), sys.argv[2]
    try:
        from shard.stores.folder import StateError  # noqa: PLC0415 - a failed import is told, too
        from shard.stores.process import run  # noqa: PLC0415 - as above

        try:
            run(control_fd, folder)
        except StateError as error:
            os.write(control_fd, control.last_line(f"FAIRVISOR_STATE_DIR: {error}"))
            sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last thing this process does
        os.write(control_fd, control.last_words(error))
        sys.exit(1)


main()
