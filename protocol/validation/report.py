"""What validation found, and where."""

from dataclasses import dataclass, field

from protocol.bundle import Bundle, Problem
from protocol.validation.wording import printable

_LONGEST_SHOWN_KEY = 100


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of validation. `bundle` is None if, and only if, there are errors."""

    bundle: Bundle | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


@dataclass(slots=True)
class Findings:
    """Collects problems in the order in which they are found. `strict` is §2.5's `--strict`."""

    strict: bool = False
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def error(self, path: str, message: str) -> None:
        """Record a problem that makes the bundle unusable."""
        self.errors.append(Problem(path, message))

    def warning(self, path: str, message: str) -> None:
        """Record a problem that the operator should know of."""
        self.warnings.append(Problem(path, message))

    def slip(self, path: str, message: str) -> None:
        """Record what is a warning, and an error in strict mode."""
        (self.error if self.strict else self.warning)(path, message)

    def report(self, bundle: Bundle | None) -> Report:
        """Return everything found; the bundle only if nothing is wrong with it."""
        return Report(None if self.errors else bundle, tuple(self.errors), tuple(self.warnings))


def child(path: str, key: str) -> str:
    """Return the place of a key, as `$.a.b`; in brackets if it would not be readable there."""
    if key and key.isprintable() and len(key) <= _LONGEST_SHOWN_KEY:
        return f"{path}.{key}"
    cut = key if len(key) <= _LONGEST_SHOWN_KEY else key[:_LONGEST_SHOWN_KEY] + "…"
    return f"{path}['{printable(cut)}']"


def item(path: str, index: int) -> str:
    """Return the place of an array's item, as `$.a[0]`."""
    return f"{path}[{index}]"
