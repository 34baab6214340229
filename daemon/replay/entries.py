"""A requests file, read and judged entry by entry (behaviour §16.1).

Rules
- The text is a JSON array of entries, or one JSON object per line (NDJSON). Lines may be the
  daemon's own decision records (§19); `recorded` turns those into requests.
- Nothing is decided before everything is judged: `survey` reads the text once for its flaws,
  `read` a second time for its entries. Lines are decoded one at a time, so that a long recording
  costs its bytes and not its objects.
- An entry's number is its place in the file, from 0; `settle` refers to it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.engine.client_address import parse_address
from daemon.engine.settlement import usage_of_counts
from daemon.replay.recorded import is_record, moment, request_of_record
from protocol.bundle import MICRO
from protocol.descriptors import value_text
from protocol.json_text import JsonTextError, decode
from protocol.usage import Usage

MOST_REPEATS = 10_000_000
SHOWN = 20
"""Flaws that are listed; one mistake made in every line need not be told a million times."""
_LATEST = 253_402_300_799  # 9999-12-31T23:59:59Z: calendars end there
_KEYS = {"at", "method", "path", "host", "headers", "query", "ip", "body", "jwt", "repeat"}


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request `repeat` times; it is as `request_of` takes it. `at` is in microseconds."""

    index: int
    at: int
    request: Mapping[str, Any]
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Settle:
    """Settle what the last request of entry `of` reserved."""

    index: int
    at: int
    of: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class ResetBreakers:
    """Close all circuit breakers by hand (§17)."""

    index: int
    at: int


Entry = Ask | Settle | ResetBreakers


class FlawError(ValueError):
    """Part of a requests file cannot be used; the message names the place and the fix."""


@dataclass(slots=True)
class Survey:
    """What a requests file holds: usable entries, requests to send, lines that are no requests.

    `settled` are the numbers of the entries whose reservations will be settled.
    """

    entries: int = 0
    requests: int = 0
    skipped: int = 0
    first_at: int | None = None
    settled: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    more_errors: int = 0
    warnings: list[str] = field(default_factory=list)


def survey(text: bytes, now: int) -> Survey:
    """Return what the text holds and everything that is wrong with it. `now` in microseconds."""
    found = Survey()
    last = 0
    for outcome in _judged(text, now):
        match outcome:
            case FlawError():
                if len(found.errors) < SHOWN:
                    found.errors.append(str(outcome))
                else:
                    found.more_errors += 1
            case None:
                found.skipped += 1
            case (entry, unknown):
                found.entries += 1
                if isinstance(entry, Ask):
                    found.requests += entry.repeat
                elif isinstance(entry, Settle):
                    found.settled.add(entry.of)
                if found.first_at is None:
                    found.first_at = entry.at
                notes = [f"requests[{entry.index}].{key}: unknown key" for key in unknown]
                if entry.at < last:
                    notes.append(f"requests[{entry.index}].at: earlier than the entry before it")
                last = entry.at
                found.warnings += notes[: max(0, SHOWN - len(found.warnings))]
    return found


def read(text: bytes, now: int) -> Iterator[Entry]:
    """Yield the entries of a text that `survey` has found no fault with."""
    for outcome in _judged(text, now):
        if isinstance(outcome, tuple):
            yield outcome[0]


def _judged(text: bytes, now: int) -> Iterator[tuple[Entry, list[str]] | FlawError | None]:
    """Yield per entry: itself with its unknown keys, its flaw, or None if it is to be skipped."""
    judge = _Judge(now)
    for index, value in enumerate(_values(text)):
        if isinstance(value, FlawError):
            yield value
            judge.asked.append(0)
            continue
        try:
            yield judge.entry(index, value)
        except FlawError as flaw:
            yield flaw
            judge.asked.append(1)  # what refers to it need not be told a second time


def _values(text: bytes) -> Iterator[object]:
    """Yield the JSON values of an array or of lines; a flaw in place of one that is no JSON."""
    if text.lstrip()[:1] == b"[":
        try:
            values = decode(text)
        except JsonTextError as error:
            yield FlawError(f"requests: {error}")
            return
        yield from values if isinstance(values, list) else [values]
        return
    position = 0
    number = 0
    while position < len(text):
        end = text.find(b"\n", position)
        end = len(text) if end < 0 else end
        line, position, number = text[position:end], end + 1, number + 1
        if not line.strip():
            continue
        try:
            yield decode(line)
        except JsonTextError as error:
            hint = "; expected an array, or one JSON object per line" if number == 1 else ""
            yield FlawError(f"requests: line {number}: {error}{hint}")
            if number == 1:
                return


class _Judge:
    """Turns values into entries; remembers the time of the last one and which were requests."""

    def __init__(self, now: int) -> None:
        self._clock = now
        self.asked = bytearray()

    def entry(self, index: int, value: object) -> tuple[Entry, list[str]] | None:
        place = f"requests[{index}]"
        if not isinstance(value, dict):
            raise FlawError(f"{place}: must be an object, not {_kind(value)}")
        if is_record(value):
            request = request_of_record(value)
            if request is None:
                self.asked.append(0)
                return None
            value = request
        at = self._at(place, value)
        entry: Entry
        if "settle" in value:
            entry, known = self._settle(place, index, at, value["settle"]), {"at", "settle"}
        elif value.get("reset_breaker"):
            entry, known = ResetBreakers(index, at), {"at", "reset_breaker"}
        else:
            entry, known = _ask(place, index, at, value), _KEYS
        self.asked.append(isinstance(entry, Ask))
        return entry, [key for key in value if key not in known]

    def _at(self, place: str, value: dict[str, object]) -> int:
        at = value.get("at")
        if at is not None:
            seconds = moment(at)
            if seconds is None or not 0 <= seconds <= _LATEST:
                raise FlawError(
                    f"{place}.at: must be epoch seconds or a time such as 2026-01-31T12:00:00Z"
                )
            self._clock = round(seconds * MICRO)
        return self._clock

    def _settle(self, place: str, index: int, at: int, value: object) -> Settle:
        place += ".settle"
        if not isinstance(value, dict):
            raise FlawError(f"{place}: must be an object with index and usage")
        of = value.get("index")
        if type(of) is not int:
            raise FlawError(f"{place}.index: must be the number of an earlier entry, from 0")
        if not 0 <= of < index:
            raise FlawError(
                f"{place}.index: {of} is not an earlier entry; this one is number {index}"
            )
        if not self.asked[of]:
            raise FlawError(f"{place}.index: entry {of} is not a request")
        counts = value.get("usage")
        usage = usage_of_counts(counts) if isinstance(counts, dict) else None
        if usage is None:
            raise FlawError(
                f"{place}.usage: must hold prompt_tokens and completion_tokens, or total_tokens"
            )
        return Settle(index, at, of, usage)


def _ask(place: str, index: int, at: int, value: dict[str, Any]) -> Ask:
    if not isinstance(value.get("path"), str):
        raise FlawError(f"{place}.path: must be text such as /v1/items; it is {_given(value)}")
    for key in ("method", "host"):
        if not isinstance(value.get(key), str | None):
            raise FlawError(f"{place}.{key}: must be text, not {_kind(value[key])}")
    ip = value.get("ip")
    if ip is not None and not (isinstance(ip, str) and (ip == "" or parse_address(ip))):
        raise FlawError(f"{place}.ip: must be an IP address; leave it out for a Unix socket")
    if not isinstance(value.get("jwt"), dict | None):
        raise FlawError(f"{place}.jwt: must be an object of claims, not {_kind(value['jwt'])}")
    repeat = value.get("repeat", 1)
    if type(repeat) is not int or not 1 <= repeat <= MOST_REPEATS:
        raise FlawError(f"{place}.repeat: must be a whole number from 1 to {MOST_REPEATS}")
    _check_texts(f"{place}.headers", value.get("headers"))
    if not isinstance(value.get("query"), str):
        _check_texts(f"{place}.query", value.get("query"))
    return Ask(index, at, value, repeat)


def _check_texts(place: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise FlawError(f"{place}: must be an object of names and values, not {_kind(value)}")
    for name, given in value.items():
        for each in given if isinstance(given, list) else [given]:
            if value_text(each) is None:
                raise FlawError(f"{place}.{name}: must be text, not {_kind(each)}")


def _given(value: dict[str, object]) -> str:
    return _kind(value["path"]) if "path" in value else "missing"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (list, "an array"),
    (dict, "an object"),
)


def _kind(value: object) -> str:
    return next((word for kind, word in _KINDS if isinstance(value, kind)), "null")
