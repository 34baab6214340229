"""Reading one JSON object, field by field.

Rules
- Each field is taken by the method that says its type. Taking it checks it, records what is
  wrong at the field's own place, and ticks the key off; `close` reports the keys that nobody took.
- After an error a method still returns a value of the field's type, a *stand-in*, so that reading
  goes on and every other error is found too. Stand-ins are never seen: a report with errors has
  no bundle. A check that compares fields asks `sound` first.
- `default=None` means required. A field that is present is checked even if it is null.
- Messages name the field, what it must be, and what it is.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Final, TypeGuard, TypeVar

from protocol import timestamps
from protocol.validation.amounts import Range, exact
from protocol.validation.report import Findings, child, item
from protocol.validation.wording import guess, listing, show

Word = TypeVar("Word", bound=str)

NON_EMPTY_TEXT: Final = "a non-empty string"
_TIMESTAMP_WORDS: Final = "timestamp such as 2026-02-03T14:00:00Z (UTC, whole seconds)"
_ABSENT: Final = object()


class Fields:
    """One object under reading. `path` is its place, `kind` its name in messages."""

    __slots__ = ("_aliases", "_faulty", "_known", "_raw", "findings", "kind", "path")

    def __init__(self, raw: Mapping[str, object], path: str, kind: str, findings: Findings) -> None:
        self._raw = raw
        self._aliases: dict[str, str] = {}
        self._known: dict[str, None] = {}
        self._faulty: set[str] = set()
        self.path = path
        self.kind = kind
        self.findings = findings

    def has(self, name: str) -> bool:
        """Tell whether the key is present, whatever its value."""
        self._known[name] = None
        return name in self._raw

    def raw(self, name: str) -> object:
        """Return a field's unchecked value, None if absent."""
        self._known[name] = None
        return self._raw.get(name)

    def adopt(self, name: str, alias: str) -> None:
        """Let `alias` stand in for an absent `name`; findings are then still at `name`."""
        if not self.has(alias):
            return
        if self.has(name):
            self.warning(alias, f"{alias} is ignored, because {name} is given too; remove one")
        else:
            self._raw = {**self._raw, name: self._raw[alias]}
            self._aliases[name] = alias

    def names(self, *names: str) -> None:
        """Tick keys off without reading them."""
        self._known.update(dict.fromkeys(names))

    def at(self, name: str) -> str:
        """Return the place of a field."""
        return child(self.path, name)

    def error(self, name: str, message: str) -> None:
        """Record an error at a field."""
        self._faulty.add(name)
        self.findings.error(self.at(name), message)

    def warning(self, name: str, message: str) -> None:
        """Record a warning at a field."""
        self.findings.warning(self.at(name), message)

    def sound(self, *names: str) -> bool:
        """Tell whether no error has been recorded at any of these fields."""
        return self._faulty.isdisjoint(names)

    def demand(
        self, name: str, words: str, *, required: bool = False, remark: str = "", shown: bool = True
    ) -> None:
        """Record that a field must be `words`; `shown=False` keeps its value out of the message."""
        label = f"{name} (given as {self._aliases[name]})" if name in self._aliases else name
        must = (
            f"{label} is required and must be {words}" if required else f"{label} must be {words}"
        )
        if name not in self._raw:
            self.error(name, f"{must}; it is missing{remark}")
        elif shown:
            self.error(name, f"{must}; got {show(self._raw[name])}{remark}")
        else:
            self.error(name, must + remark)

    def boolean(self, name: str, *, default: bool | None = None) -> bool:
        """Take true or false."""
        value = self._take(name)
        if isinstance(value, bool):
            return value
        if value is _ABSENT and default is not None:
            return default
        remark = ", a string: write it without quotes" if value in ("true", "false") else ""
        self.demand(name, "a boolean (true or false)", required=default is None, remark=remark)
        return False

    def text(
        self,
        name: str,
        *,
        default: str | None = None,
        words: str = NON_EMPTY_TEXT,
        shown: bool = True,
    ) -> str:
        """Take a non-empty string."""
        value = self._take(name)
        if value is _ABSENT and default is not None:
            return default
        if is_text(value):
            return value
        remark = ", which is not valid Unicode" if isinstance(value, str) and value else ""
        self.demand(name, words, required=default is None, remark=remark, shown=shown)
        return "-"

    def choice(self, name: str, options: Sequence[Word], *, default: Word | None = None) -> Word:
        """Take one of some words."""
        value = self._take(name)
        if value is _ABSENT and default is not None:
            return default
        for option in options:
            if value == option:
                return option
        words = listing(options) if len(options) == 1 else f"one of {listing(options)}"
        self.demand(name, words, required=default is None, remark=guess(value, options))
        return options[0]

    def number(self, name: str, range_: Range, *, default: Fraction | None = None) -> Fraction:
        """Take a number in a range, exactly."""
        value = self._take(name)
        if value is _ABSENT and default is not None:
            return default
        fault = "" if value is _ABSENT else range_.fault(value)
        if fault is None:
            return exact(value) or Fraction(0)
        self.demand(name, range_.words, required=default is None, remark=fault)
        return Fraction(1)

    def optional_number(self, name: str, range_: Range) -> Fraction | None:
        """Take a number in a range, or None if the key is absent."""
        # The default only says that the field is not required: the key is there.
        return self.number(name, range_, default=Fraction(1)) if self.has(name) else None

    def timestamp(self, name: str, *, required: bool = False) -> int | None:
        """Take a timestamp as epoch seconds; None if absent or wrong."""
        value = self._take(name)
        if value is _ABSENT:
            if required:
                self.error(name, f"{name} is required: a {_TIMESTAMP_WORDS}; it is missing")
            return None
        epoch = timestamps.parse(value)
        if epoch is None:
            must = "it is required and must be" if required else "it must be"
            wrong = f"{name} is invalid: {must} a real {_TIMESTAMP_WORDS}"
            self.error(name, f"{wrong}; got {show(value)}")
        return epoch

    def array(
        self,
        name: str,
        words: str,
        *,
        required: bool = True,
        filled: bool = False,
        shown: bool = True,
    ) -> list[object]:
        """Take an array; `filled` refuses an empty one. Absent or wrong gives an empty list."""
        value = self._take(name)
        if value is _ABSENT and not required:
            return []
        if isinstance(value, list) and (value or not filled):
            return value
        self.demand(name, words, required=required, shown=shown)
        return []

    def section(
        self,
        name: str,
        *,
        required: bool = False,
        words: str = "an object",
        shown: bool = True,
    ) -> "Fields | None":
        """Take an object for reading; None if absent or wrong."""
        value = self._take(name)
        if value is _ABSENT and not required:
            return None
        if isinstance(value, dict):
            return Fields(value, self.at(name), name, self.findings)
        self.demand(name, words, required=required, shown=shown)
        return None

    def entries(self, name: str) -> dict[str, object]:
        """Take an object whose keys are free; absent or wrong gives an empty one."""
        value = self._take(name)
        if value is _ABSENT:
            return {}
        if isinstance(value, dict):
            return value
        self.demand(name, "an object")
        return {}

    def close(self, instead: Mapping[str, str] = MappingProxyType({})) -> None:
        """Report every key that was not taken (§2.5); `instead` knows what some of them mean."""
        for key in self._raw:
            if key in self._known:
                continue
            if instead.get(key) in self._known:
                remark = f"; did you mean `{instead[key]}`?"
            else:
                remark = guess(key, self._known) or f"; known are {listing(self._known)}"
            self.findings.slip(self.at(key), f"unknown key in {self.kind}{remark}")

    def _take(self, name: str) -> object:
        self._known[name] = None
        return self._raw.get(name, _ABSENT)


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether a value is a non-empty string that can be written as UTF-8."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def open_item(  # noqa: PLR0913 - which item, where it is, what it is
    values: list[object],
    index: int,
    path: str,
    kind: str,
    findings: Findings,
    *,
    shown: bool = True,
) -> Fields | None:
    """Open an array's item as an object; None, and an error at the item, if it is none.

    `shown=False` keeps what it is out of the message.
    """
    value = values[index]
    if isinstance(value, dict):
        return Fields(value, item(path, index), kind, findings)
    got = f"; got {show(value)}" if shown else ""
    findings.error(item(path, index), f"{kind} must be an object{got}")
    return None
