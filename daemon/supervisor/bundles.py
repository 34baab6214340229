"""The bundle file, read and judged (behaviour §2.5, §2.6)."""

import os
from dataclasses import dataclass
from pathlib import Path

from protocol.bundle import Bundle, Problem
from protocol.bundle_text import load

MAX_BUNDLE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid bundle with the bytes it came from and what to warn of."""

    bundle: Bundle
    text: bytes
    warnings: tuple[Problem, ...]


class BundleError(Exception):
    """The bundle cannot be used; `problems` lists every reason."""

    def __init__(self, path: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(f"{path}: {problems[0].path}: {problems[0].message}")
        self.path = path
        self.problems = problems


def read_bundle(path: str, *, now: float, signing_key: bytes | None) -> Loaded:
    """Return the bundle in a file.

    Raises:
        BundleError: it cannot be read, is not signed as it must be, or is invalid.
    """
    try:
        size = Path(path).stat().st_size
        if size > MAX_BUNDLE_BYTES:
            raise BundleError(path, (Problem("$", f"{size} bytes; at most {MAX_BUNDLE_BYTES}"),))
        text = Path(path).read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise BundleError(path, (Problem("$", f"cannot be read: {reason}"),)) from None
    report = load(text, now=now, signing_key=signing_key)
    if report.bundle is None:
        raise BundleError(path, report.errors)
    return Loaded(report.bundle, text, report.warnings)
