"""The daemon's own log: standard error, one line each, in every process alike."""

import logging

_LEVELS = {"notice": logging.INFO, "alert": logging.CRITICAL, "emerg": logging.CRITICAL}


def start_logging(level: str) -> None:
    """Log to standard error from a level of `FAIRVISOR_LOG_LEVEL` on."""
    number = _LEVELS.get(level) or logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    logging.basicConfig(level=number, format="fairvisor: %(levelname)s: %(message)s")
