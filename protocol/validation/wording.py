"""How findings speak of values: short, printable, and with the likely intention."""

import difflib
from collections.abc import Iterable

_SHOWN_CHARACTERS = 60
_SHOWN_INTEGERS_BELOW = 10**30
# Likeness takes time quadratic in the length, and nobody mistypes a field into a whole page.
_LONGEST_TYPO = 40


def show(value: object) -> str:
    """Return any value as a short piece of one line, safe to print on a terminal."""
    shown = f"a {type(value).__name__}"
    if value is None:
        shown = "null"
    elif isinstance(value, bool):
        shown = "true" if value else "false"
    elif isinstance(value, str):
        shown = quote(value)
    elif isinstance(value, int):
        shown = str(value) if abs(value) < _SHOWN_INTEGERS_BELOW else "a huge integer"
    elif isinstance(value, float):
        shown = repr(value)
    elif isinstance(value, dict):
        shown = f"an object of {len(value)}" if value else "an empty object"
    elif isinstance(value, list):
        shown = f"an array of {len(value)}" if value else "an empty array"
    return shown


def quote(text: str) -> str:
    """Return text in double quotes, cut to 60 characters, unprintable ones escaped."""
    cut = printable(text[:_SHOWN_CHARACTERS])
    return f'"{cut}"…' if len(text) > _SHOWN_CHARACTERS else f'"{cut}"'


def printable(text: str) -> str:
    """Return text with control characters, surrogates and direction marks escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def listing(options: Iterable[str]) -> str:
    """Return options as "`a`, `b` or `c`"."""
    *most, last = (f"`{option}`" for option in options)
    return f"{', '.join(most)} or {last}" if most else last


def guess(text: object, options: Iterable[str]) -> str:
    """Return "; did you mean `…`?" if `text` looks like one of the options, else nothing."""
    if not isinstance(text, str) or len(text) > _LONGEST_TYPO:
        return ""
    folded = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(text.strip().casefold(), folded, n=1)
    return f"; did you mean `{folded[near[0]]}`?" if near else ""
