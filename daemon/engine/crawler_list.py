"""The maintained public list of crawlers, as substrings (behaviour §4.3).

PyPI `crawler-user-agents` (MIT) tags each crawler and describes its User-Agent by a regular
expression. Nearly all of them are plain text with some escapes, spelling variants or an anchor,
which a few substrings say as well and far faster; the handful that says more is left out.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

START: Final = "\x02"
END: Final = "\x03"
"""Stand for the ends of a User-Agent, so that an anchored pattern is a substring like any other."""

SHORTEST: Final = 5
"""Shorter texts of the list (`RED/`, `ds9`) would be found in ordinary browsers' names, unless
they are anchored."""

_PACKAGE: Final = "crawleruseragents"
_FILE: Final = "crawler-user-agents.json"
_BEYOND_SUBSTRINGS: Final = frozenset(".*+?{}")


class ListedCrawler(msgspec.Struct, frozen=True):
    """One entry of the public list, as far as it matters here."""

    pattern: str
    tags: tuple[str, ...] = ()


def public_list() -> list[ListedCrawler]:
    """Read the list that is installed with us: about 1,500 entries, 5 ms."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{_PACKAGE} is not installed", name=_PACKAGE)
    # Its data, not its code: importing it would keep 1.5 MB of sample texts for good.
    text = (Path(spec.origin).parent / _FILE).read_bytes()
    return msgspec.json.decode(text, type=list[ListedCrawler])


def substrings(pattern: str) -> frozenset[str]:
    """Return lower-case texts one of which is in every User-Agent that `pattern` matches.

    Empty for a pattern that plain substrings cannot express, and without texts that are too short
    to mean anything.
    """
    try:
        found, end = _alternatives(pattern, 0)
    except (ValueError, IndexError):
        return frozenset()
    if end != len(pattern):
        return frozenset()
    return frozenset(filter(_distinctive, found))


def _distinctive(text: str) -> bool:
    anchored = text.startswith(START) or text.endswith(END)
    return anchored or len(text.strip(" /")) >= SHORTEST


def _alternatives(pattern: str, at: int) -> tuple[set[str], int]:
    """Expand from `at` to the closing bracket or the end; returns the texts and where it ended.

    Raises:
        ValueError: for a construct that is not a choice between plain texts.
    """
    done: set[str] = set()
    texts = {""}
    while at < len(pattern) and pattern[at] != ")":
        if pattern[at] == "|":
            done |= texts
            texts = {""}
            at += 1
            continue
        options, at = _item(pattern, at)
        texts = {text + option for text in texts for option in options}
    return done | texts, at


def _item(pattern: str, at: int) -> tuple[set[str], int]:
    """Expand one character, class or group."""
    character = pattern[at]
    if character == "(":
        options, end = _alternatives(pattern, at + 1)
        return options, end + 1
    if character == "[":
        end = pattern.index("]", at)
        letters = pattern[at + 1 : end].lower()
        if not letters.isalnum():
            raise ValueError(pattern)
        return set(letters), end + 1
    if character == "\\":
        if pattern[at + 1].isalnum():
            raise ValueError(pattern)
        return {pattern[at + 1]}, at + 2
    if character in _BEYOND_SUBSTRINGS:
        raise ValueError(pattern)
    return {{"^": START, "$": END}.get(character, character.lower())}, at + 1


def listed_substrings(crawlers: list[ListedCrawler]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (substring, tags) for every entry of a list."""
    for crawler in crawlers:
        for text in substrings(crawler.pattern):
            yield text, crawler.tags
