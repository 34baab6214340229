"""How long property tests search: a short fixed run, or HYPOTHESIS_PROFILE=long."""

import os

from hypothesis import HealthCheck, settings

_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def profile(examples: int, steps: int = 50) -> settings:
    """Return the settings of one test; the long run has 40 times the examples and new ones."""
    return settings(
        max_examples=examples * 40 if _LONG else examples,
        stateful_step_count=steps,
        derandomize=not _LONG,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
