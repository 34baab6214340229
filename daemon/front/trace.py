"""Where an error came from, for the log.

What it says stays out: the message of an error may quote the request that it is about.
"""

from traceback import extract_tb

_FRAMES = 8


def place(error: BaseException) -> str:
    """Return files, lines and functions that an error passed through, innermost first."""
    frames = extract_tb(error.__traceback__)[-_FRAMES:]
    return ", ".join(f"{each.filename}:{each.lineno} {each.name}" for each in reversed(frames))
