"""Start one front; the supervisor's command line, not for people."""

import os
import sys

from protocol import control


def main() -> None:
    """Serve in the role that the arguments describe; tell the supervisor if that fails."""
    index, control_fd, listen_fds, *shard_paths = sys.argv[1:]
    try:
        # What cannot be imported is to be told, too.
        from daemon.front.orders import first_orders  # noqa: PLC0415
        from daemon.front.process import Role, run  # noqa: PLC0415
        from daemon.settings import load  # noqa: PLC0415

        envoy = listen_fds.removeprefix("envoy=") if listen_fds.startswith("envoy=") else ""
        role = Role(
            index=int(index),
            control_fd=int(control_fd),
            listen_fds=() if envoy else tuple(map(int, listen_fds.split(","))),
            shard_paths=tuple(shard_paths),
            envoy=envoy,
        )
        orders = first_orders(role.control_fd)
        run(role, load({**os.environ, **orders.secrets}), orders)
    except Exception as error:  # noqa: BLE001 - the last thing this process does
        os.write(int(control_fd), control.last_words(error))
        sys.exit(1)


main()
