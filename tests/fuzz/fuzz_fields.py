"""Any policy id and figures: our RateLimit fields are structured fields that say so (RFC 9651).

The judge is http-sf, the library of the format's author.
"""

import struct
from urllib.parse import unquote

import http_sf

from protocol.decision import Limit
from protocol.fields import ratelimit_fields

_FIGURES = struct.Struct("<QQQQ")
_LARGEST = 999_999_999_999_999
"""An integer of a structured field has at most 15 digits."""


def one_input(data: bytes) -> None:
    """Write the fields and read them back."""
    figures = data[: _FIGURES.size].ljust(_FIGURES.size, b"\0")
    quota, remaining, reset, window = (n % _LARGEST for n in _FIGURES.unpack(figures))
    name = data[_FIGURES.size :].decode("utf-8", "surrogateescape")
    if any(0xDC80 <= ord(char) <= 0xDCFF for char in name):
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    limit = Limit(policy_id=name, quota=quota, remaining=remaining, reset=reset, window=window)
    fields = dict(ratelimit_fields(limit))
    for field, said in (
        ("RateLimit", {"r": remaining, "t": reset}),
        ("RateLimit-Policy", {"q": quota, "w": window}),
    ):
        ((item, parameters),) = http_sf.parse(fields[field].encode("ascii"), tltype="list")
        assert unquote(item) == name
        assert parameters == said
    for field in ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"):
        value, _ = http_sf.parse(fields[field].encode("ascii"), tltype="item")
        assert isinstance(value, int)
