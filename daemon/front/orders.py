"""What the supervisor tells a front first of all: keys and secrets go through no environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol import control
from protocol.frames import FrameReader

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Orders:
    """`jitter_key` is the deployment's key of digests; `secrets` are secret variables' values.

    `patience`: seconds to wait for shards before serving without them.
    """

    patience: float
    jitter_key: bytes = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)


def first_orders(descriptor: int) -> Orders:
    """Wait for the first frame on the control socket, and take not a byte of what follows.

    Raises:
        EOFError: the supervisor is gone.
        ValueError: it said something else.
    """
    length = _read(descriptor, _LENGTH_BYTES)
    body = _read(descriptor, int.from_bytes(length, "little"))
    match FrameReader().feed(length + body):
        case [
            [
                control.CONFIGURE,
                {"patience": float(patience), "jitter_key": bytes(key), "secrets": dict(secrets)},
            ]
        ]:
            return Orders(patience, key, secrets)
    raise ValueError("a front was told something else before its secrets")


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(descriptor, size - len(data))
        if not more:
            raise EOFError("the supervisor is gone")
        data += more
    return data
