"""What a supervisor leaves to the program that replaces it under the same process id (§13.4).

The new program inherits the descriptors that are named here, and a memory file with this record,
whose descriptor is in an environment variable. A field that a later version adds needs a default.
"""

import hashlib
import os
from collections.abc import MutableMapping

import msgspec

from daemon.supervisor.bundles import Loaded, Stamp
from protocol.bundle import Problem
from protocol.bundle_text import load
from protocol.frames import pack

VARIABLE = "_FAIRVISOR_HANDOVER"


class HandoverError(Exception):
    """What was left cannot be taken over; one line that says why."""


class LeavingFront(msgspec.Struct, frozen=True):
    """A front that finishes what it has under way: its process, its end of the control socket.

    `heard` is the beginning of a message that has not come to its end.
    """

    name: str
    pid: int
    control: int
    heard: bytes = b""


class ActiveBundle(msgspec.Struct, frozen=True):
    """The bundle that serves; `table` is the digest of its rule table, `seen` its files' stamps."""

    text: bytes
    jwks: dict[str, bytes]
    generation: int
    loaded_at: str
    table: bytes
    seen: tuple[Stamp, ...]


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that goes on."""

    bundle: ActiveBundle
    listeners: list[int]
    given: bool
    """Whether the listeners are a service manager's."""
    folder: str
    meetings: list[int]
    """The shards' listeners."""
    lock: int
    run: int
    lives: list[int]
    secret: bytes
    fronts: list[LeavingFront] = []
    retired: list[object] = []
    """A snapshot with what fronts that have ended counted."""
    restarts: dict[str, int] = {}
    hung: dict[str, int] = {}


def leave(handover: Handover) -> int:
    """Return an inheritable descriptor of a memory file that holds `handover`."""
    fd = os.memfd_create("fairvisor-handover", 0)
    text = memoryview(msgspec.msgpack.encode(handover))
    while text:
        text = text[os.write(fd, text) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def take(environ: MutableMapping[str, str]) -> Handover | None:
    """Return what the program before has left, None if there was none.

    Raises:
        HandoverError: this version does not understand it.
    """
    number = environ.pop(VARIABLE, "")
    if not number.isdecimal():
        return None
    try:
        with os.fdopen(int(number), "rb") as file:
            return msgspec.msgpack.decode(file.read(), type=Handover)
    except (OSError, msgspec.MsgspecError) as error:
        raise HandoverError(f"what the running version leaves cannot be read: {error}") from None


def loaded(bundle: ActiveBundle, signing_key: bytes | None) -> tuple[Loaded | None, list[Problem]]:
    """Return the bundle that serves, or what this version has against it; expiry is no matter."""
    report = load(bundle.text, now=0.0, signing_key=signing_key)
    if report.bundle is None:
        return None, list(report.errors)
    return Loaded(report.bundle, bundle.text, report.warnings, bundle.jwks), []


def digest(table: list[list[object]]) -> bytes:
    """Return what tells one rule table from another."""
    return hashlib.sha256(pack(table)).digest()
