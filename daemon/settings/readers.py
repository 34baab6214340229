"""How the text of a variable is read: pure functions that return a value or say what is wrong."""

import math
import os
from collections.abc import Callable
from ipaddress import ip_address

from daemon.settings.values import Address, TcpAddress, UnixAddress

_SUN_PATH_MAX = 107
_PORT_MAX = 65_535
_MAX_PROCESSES = 64


def parse_listen(text: str) -> tuple[Address, ...]:
    """Return the listeners of a comma list of `host:port`, `[v6]:port` and `unix:/path`.

    Raises:
        ValueError: an entry is not an address; the message names it and the fix.
    """
    addresses = tuple(parse_address(part.strip()) for part in text.split(",") if part.strip())
    if not addresses:
        raise ValueError("needs at least one host:port or unix:/path")
    if len(set(addresses)) != len(addresses):
        raise ValueError(f"names the same address twice: {text}")
    return addresses


def parse_address(text: str) -> Address:
    """Return the listener that a `host:port`, `[v6]:port` or `unix:/path` describes.

    Raises:
        ValueError: it is not an address; the message names it and the fix.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(os.fsencode(path)) > _SUN_PATH_MAX:
            raise ValueError(
                f"'{text}' needs an absolute path of at most {_SUN_PATH_MAX} bytes after unix:"
            )
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _PORT_MAX:
        raise ValueError(f"'{text}' is not host:port, [ipv6]:port or unix:/path")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"  # noqa: S104 - ":8080" says so
    if host != "localhost":
        try:
            ip_address(host)
        except ValueError:
            raise ValueError(f"'{text}' needs an IP address or localhost before the port") from None
    return TcpAddress(host, int(port))


def parse_size(text: str) -> int:
    """Return bytes from `1048576`, `512k`, `128m` or `2g`.

    Raises:
        ValueError: not such a size, or not positive.
    """
    scale = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(text[-1].lower(), 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.isascii() or not digits.isdigit() or int(digits) == 0:
        raise ValueError(f"'{text}' is not a size such as 10485760, 512k, 128m or 2g")
    return int(digits) * scale


def processors() -> int:
    """Return the number of processors this process may run on."""
    return len(os.sched_getaffinity(0))


def positive(text: str) -> float:
    """Return a finite number greater than 0.

    Raises:
        ValueError: not such a number.
    """
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"'{text}' must be a finite number, greater than 0")
    if number <= 0:
        raise ValueError(f"'{text}' must be greater than 0")
    return number


def count(text: str) -> int:
    """Return a whole number greater than 0.

    Raises:
        ValueError: not such a number.
    """
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ValueError(f"'{text}' is not a positive whole number")
    return int(text)


def between(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of a whole number within these bounds, both included."""

    def read(text: str) -> int:
        number = count(text)
        if not least <= number <= most:
            raise ValueError(f"'{text}' must be from {least} to {most}")
        return number

    return read


def processes(auto: Callable[[], int]) -> Callable[[str], int]:
    """Return a reader of a number of processes, for which `auto` is what `auto()` says."""

    def read(text: str) -> int:
        if text == "auto":
            return min(auto(), _MAX_PROCESSES)
        try:
            number = count(text)
        except ValueError as error:
            raise ValueError(f"{error}, nor auto") from None
        if number > _MAX_PROCESSES:
            raise ValueError(f"'{text}' is more than {_MAX_PROCESSES} processes")
        return number

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader that takes these words only."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"'{text}' must be one of {', '.join(choices)}")
        return text

    return read


def milliseconds(text: str) -> float:
    """Return the seconds that a number of milliseconds is.

    Raises:
        ValueError: not a number greater than 0.
    """
    return positive(text) / 1000


def seconds_or_none(text: str) -> float:
    """Return a number of seconds greater than 0; 0 for `none` and 0.

    Raises:
        ValueError: neither of them.
    """
    return 0.0 if text in {"none", "0"} else positive(text)


def state_path(text: str) -> str:
    """Return an absolute path, or `none`.

    Raises:
        ValueError: neither of them.
    """
    if text != "none" and not text.startswith("/"):
        raise ValueError(f"'{text}' must be an absolute path, or none for memory only")
    return text
