"""Wait until a daemon is ready, then run a demonstration on it and print requests to try.

Usage: greet.py LISTEN PID [DEMO], where LISTEN is the value of FAIRVISOR_LISTEN, PID the daemon's
process and DEMO a Python program that is given the base URL of the first TCP listener. Gives up,
silently, when that process ends. What another process answers there counts for nothing. Needs Linux
and nothing but the standard library.
"""

import contextlib
import http.client
import itertools
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WAIT_SECONDS = 60.0
PROBE_SECONDS = 0.1
DEMO_SECONDS = 60.0
HEADERS = (
    "-H 'X-Original-Method: GET' -H 'X-Original-URI: /api/data'"
    " -H 'X-Forwarded-For: 10.0.0.{client}'"
)


@dataclass(frozen=True, slots=True)
class Door:
    """One listener: how to reach it with a socket and how with curl; `base` is a TCP one's URL.

    `place` is its port or path, as `listening` has them.
    """

    place: int | str
    connect: Callable[[], socket.socket]
    curl: str
    base: str = ""


def doors(listen: str) -> list[Door]:
    """Return the listeners that `listen` names, in its order (§14: FAIRVISOR_LISTEN).

    What is no address is left out: the daemon says so.
    """
    found = []
    for entry in filter(None, map(str.strip, listen.split(","))):
        if entry.startswith("unix:"):
            path = entry.removeprefix("unix:")
            curl = f"--unix-socket {shlex.quote(path)} http://localhost"
            found.append(Door(path, unix_connector(path), curl))
            continue
        host, _, port = entry.rpartition(":")
        if port.isascii() and port.isdigit():
            bare = host.strip("[]")
            near = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bare, bare)  # noqa: S104 - recognised here, not bound
            base = url(near, port)
            found.append(Door(int(port), tcp_connector(near, int(port)), base, base))
    return found


def url(host: str, port: str) -> str:
    """Return the base URL of a TCP listener."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def tcp_connector(host: str, port: int) -> Callable[[], socket.socket]:
    """Return a function that connects to a TCP listener."""
    return lambda: socket.create_connection((host, port), timeout=2)


def unix_connector(path: str) -> Callable[[], socket.socket]:
    """Return a function that connects to a Unix socket."""

    def connect() -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(2)
        try:
            link.connect(path)
        except OSError:
            link.close()
            raise
        return link

    return connect


def is_ready(door: Door) -> bool:
    """Ask `/readyz` (§9.2) through `door`."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        link = http.client.HTTPConnection("localhost", timeout=2)
        link.sock = door.connect()
        try:
            link.request("GET", "/readyz", headers={"Connection": "close"})
            return link.getresponse().status == http.HTTPStatus.OK
        finally:
            link.close()
    return False


def is_running(pid: int) -> bool:
    """Tell whether process `pid` is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def listening(pid: int) -> set[int | str]:
    """Return the TCP ports and the socket paths at which process `pid` itself listens (proc(5))."""
    process = Path(f"/proc/{pid}")
    places: set[int | str] = set()
    with contextlib.suppress(OSError):  # it ended
        own = set()
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                own.add(str(descriptor.readlink()))
        for line in itertools.chain(rows(process / "net/tcp"), rows(process / "net/tcp6")):
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                places.add(int(fields[1].rpartition(":")[2], 16))
        for line in rows(process / "net/unix"):
            fields = line.split(maxsplit=7)
            if fields[3] == "00010000" and f"socket:[{fields[6]}]" in own:
                places.update(fields[7:])
    return places


def rows(table: Path) -> list[str]:
    """Return the lines of a table of sockets, without its heading; none if it is not there."""
    with contextlib.suppress(FileNotFoundError):  # a system without IPv6
        return table.read_text(errors="surrogateescape").splitlines()[1:]
    return []


def greeting(listeners: list[Door]) -> str:
    """Return the requests to try, as lines for a shell."""
    first = f"{HEADERS.format(client=1)} {listeners[0].curl}/v1/decision"
    lines = [
        "",
        "Fairvisor is ready. In another terminal, ask for one decision (200):",
        "",
        f"  curl -i {first}",
        "",
        "Ask twelve times more, and see what is left of the burst of ten, then 429:",
        "",
        "  for i in 1 2 3 4 5 6 7 8 9 10 11 12; do",
        f"    curl -s -o /dev/null -w '%{{http_code}}\\n' {first}",
        "  done",
        "",
        "Look at a refusal's headers (Retry-After, X-Fairvisor-Reason, RateLimit):",
        "",
        f"  curl -i {first}",
    ]
    for door in listeners[1:]:
        lines += [
            "",
            "The same counters behind the other listener; another client has a burst of its own:",
            "",
            f"  curl -i {HEADERS.format(client=2)} {door.curl}/v1/decision",
        ]
    return "\n".join([*lines, "", "Ctrl-C stops the daemon.", ""])


def demonstrate(demo: str, listeners: list[Door]) -> None:
    """Run a demonstration to its end on the first TCP listener, if there is one."""
    base = next((door.base for door in listeners if door.base), "")
    if base:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, demo, base], check=False, timeout=DEMO_SECONDS)  # noqa: S603 - a program of this clone
        again = shlex.join([sys.executable, demo, base])
        print(
            f"\nIn another terminal, again, once the budget has refilled:\n\n  {again}", flush=True
        )


def main(listen: str, pid: int, demo: str = "") -> None:
    """Demonstrate and greet once every listener answers, if the daemon lives to see it."""
    listeners = doors(listen)
    places = {door.place for door in listeners}
    deadline = time.monotonic() + WAIT_SECONDS
    while listeners and is_running(pid) and time.monotonic() < deadline:
        # Another daemon may be ready there, while this one finds its port taken.
        if places <= listening(pid) and all(map(is_ready, listeners)):
            if demo:
                demonstrate(demo, listeners)
            print(greeting(listeners), flush=True)
            return
        time.sleep(PROBE_SECONDS)
    if listeners and is_running(pid):
        sys.exit(f"not ready after {WAIT_SECONDS:.0f} s: ask /readyz for the reason")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4])
