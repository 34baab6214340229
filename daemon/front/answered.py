"""A front's notes of what it has answered, in memory that its shards can read after its death.

See `protocol.answered`. A system that gives no such memory costs the notes, not the service.
"""

import mmap
import os

from protocol.answered import PAGE_BYTES


class Lifeline:
    """A pipe whose writing end ends with this process. `fd` is the end to give away, -1 if none."""

    __slots__ = ("_held", "fd")

    def __init__(self) -> None:
        try:
            self.fd, self._held = os.pipe()
        except OSError:
            self.fd = self._held = -1


class AnsweredPage:
    """The notes of one link. `slots` are written; `fd` is the page to give away, -1 if none."""

    __slots__ = ("fd", "slots")

    def __init__(self) -> None:
        self.fd = -1
        self.slots = memoryview(bytearray(PAGE_BYTES)).cast("Q")
        try:
            fd = os.memfd_create("fairvisor-answered")
        except OSError:
            return
        try:
            os.ftruncate(fd, PAGE_BYTES)
            self.slots = memoryview(mmap.mmap(fd, PAGE_BYTES)).cast("Q")
        except OSError:
            os.close(fd)
        else:
            self.fd = fd
