"""The version that is installed."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the installed version, `unknown` for a clone that is not installed."""
    try:
        return version("fairvisor")
    except PackageNotFoundError:
        return "unknown"
