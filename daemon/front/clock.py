"""The time by which a front decides."""

from time import time_ns


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time_ns() // 1000
