"""The one spelling of a point in time that a bundle may use (§2.1)."""

import re
from datetime import UTC, datetime

_SHAPE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def parse(text: object) -> int | None:
    """Return the epoch seconds of a strict `YYYY-MM-DDTHH:MM:SSZ`, or None for anything else.

    Fractions, offsets, other separators, single digits, impossible dates, hour 24 and second 60
    are all refused.
    """
    if not isinstance(text, str) or not _SHAPE.fullmatch(text):
        return None
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    # strptime reads second 60 and 61 as a leap second's name and moves on a minute.
    return int(moment.timestamp()) if text[17:19] < "60" else None
