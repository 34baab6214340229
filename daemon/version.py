"""The version that is installed, and how it was built."""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def package_version() -> str:
    """Return the installed version, `unknown` for a clone that is not installed."""
    try:
        return version("fairvisor")
    except PackageNotFoundError:
        return "unknown"


def is_compiled() -> bool:
    """Return whether the rooms that setup.py lists run compiled; all of them do, or none."""
    found = find_spec("daemon.llm.meter")
    origin = found.origin if found is not None else None
    return origin is not None and origin.endswith(tuple(EXTENSION_SUFFIXES))


def described() -> str:
    """Return the program's name, its version and whether it is compiled, in one line."""
    return f"fairvisor {package_version()}{' (compiled)' if is_compiled() else ''}"
