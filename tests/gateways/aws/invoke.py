"""Lambda's runtime for a test: one event a line in, one answer a line out."""

import importlib.util
import json
import sys

_spec = importlib.util.spec_from_file_location("authorizer", sys.argv[1])
assert _spec is not None
assert _spec.loader is not None
_authorizer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_authorizer)

for _line in sys.stdin:
    try:
        _answer = {"result": _authorizer.handler(json.loads(_line), None)}
    except ValueError as error:
        _answer = {"error": str(error)}
    print(json.dumps(_answer), flush=True)  # noqa: T201 - the answer
