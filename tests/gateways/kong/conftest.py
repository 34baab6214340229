"""The daemon's fixtures of the end-to-end tests."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "kong_e2e", Path(__file__).parents[2] / "e2e/conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_e2e)

serve = _e2e._serve
serve_all = _e2e._serve_all
wait_until = _e2e._wait_until
