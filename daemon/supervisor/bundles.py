"""The bundle file and what it refers to, read and judged (behaviour §2.5-§2.7, §12.2)."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from daemon.engine.identity import claims_reader
from daemon.engine.verification_keys import UnusableKeyError
from protocol.bundle import Bundle, Problem
from protocol.bundle_text import load

MAX_BUNDLE_BYTES = 64 << 20
MAX_JWKS_BYTES = 1 << 20
Stamp = tuple[int, int, int] | None
"""What changes when a file is replaced or written to; None: there is no file."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid bundle: the text it came from, its JWKS documents by name, what to warn of."""

    bundle: Bundle
    text: bytes
    warnings: tuple[Problem, ...] = ()
    jwks: dict[str, bytes] = field(default_factory=dict)


class BundleError(Exception):
    """The bundle cannot be used; `problems` lists every reason, `missing` that there is no file."""

    def __init__(self, path: str, problems: tuple[Problem, ...], *, missing: bool = False) -> None:
        super().__init__(f"{path}: {problems[0].path}: {problems[0].message}")
        self.path = path
        self.problems = problems
        self.missing = missing


def read_bundle(path: str, *, now: float, signing_key: bytes | None) -> Loaded:
    """Return the bundle in a file.

    Raises:
        BundleError: it cannot be read, is not signed as it must be, or is invalid.
    """
    text = _read(path, path, "$", MAX_BUNDLE_BYTES)
    report = load(text, now=now, signing_key=signing_key)
    if report.bundle is None:
        raise BundleError(path, report.errors)
    return Loaded(report.bundle, text, report.warnings, read_jwks(path, report.bundle))


def read_jwks(path: str, bundle: Bundle) -> dict[str, bytes]:
    """Return the JWKS documents that the bundle in `path` names, by name.

    Raises:
        BundleError: one cannot be read, or a key of the bundle cannot be used.
    """
    jwks = {
        key.jwks_file: _read(
            path, beside(path, key.jwks_file), f"$.jwt.keys[{index}].jwks_file", MAX_JWKS_BYTES
        )
        for index, key in enumerate(bundle.jwt.keys)
        if key.jwks_file
    }
    try:
        claims_reader(bundle.jwt, jwks)
    except UnusableKeyError as error:
        raise BundleError(path, (error.problem,)) from None
    return jwks


def beside(bundle_path: str, name: str) -> str:
    """Return a file named in a bundle: relative names start at the bundle's folder."""
    return str(Path(bundle_path).parent / name)


def signature(path: str, loaded: Loaded | None) -> tuple[Stamp, ...]:
    """Return what changes when the bundle file or a file it names is replaced or written to."""
    names = [path, *(beside(path, name) for name in (loaded.jwks if loaded else ()))]
    return tuple(_stamp(name) for name in names)


def _stamp(path: str) -> Stamp:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(bundle_path: str, path: str, place: str, limit: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            text = file.read(limit + 1)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        message = "cannot be read" if path == bundle_path else f"{path} cannot be read"
        missing = path == bundle_path and isinstance(error, FileNotFoundError)
        problems = (Problem(place, f"{message}: {reason}"),)
        raise BundleError(bundle_path, problems, missing=missing) from None
    if len(text) > limit:
        raise BundleError(bundle_path, (Problem(place, f"is over {limit} bytes"),))
    return text
