"""Compiles the rooms that requests and pieces of streams pass, where there is a C compiler.

mypyc turns the same source into C (https://mypyc.readthedocs.io). Without a compiler, or with
FAIRVISOR_PURE=1, they are installed as they are: slower, and otherwise the same. An editable
install never compiles, since a compiled room would hide the source that is being edited;
`scripts/compile` does it in place.
"""

import os
import sys
from typing import Any

COMPILED = [
    "daemon/front/http1.py",
    "daemon/front/inbound.py",
    "daemon/front/pipelined.py",
    "daemon/front/plain_chunks.py",
    "daemon/front/plain_lines.py",
    "daemon/front/plain_requests.py",
    "daemon/front/plain_responses.py",
    "daemon/front/request_reader.py",
    "daemon/front/response_reader.py",
    "daemon/front/socket_writer.py",
    "daemon/front/upstream.py",
    "daemon/front/upstream_caller.py",
    "daemon/front/upstream_headers.py",
    "daemon/front/upstream_pool.py",
    "daemon/front/proxy/app.py",
    "daemon/front/proxy/exchange.py",
    "daemon/front/proxy/heads.py",
    "daemon/front/proxy/passage.py",
    "daemon/front/proxy/passing.py",
    "daemon/front/proxy/relay.py",
    "daemon/front/proxy/route.py",
    "daemon/llm/event_shape.py",
    "daemon/llm/meter.py",
]
_BUILDING = {"bdist_wheel", "build_ext"}


def extensions() -> list[Any]:
    """Return what is to be compiled; one that cannot be is left out with a warning."""
    if os.environ.get("FAIRVISOR_PURE") or not _BUILDING & set(sys.argv):
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 - only who builds has it

    # What a room imports from other projects may be absent here: scripts/check judges types.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    try:
        found = mypycify([*options, *COMPILED], group_name="daemon.compiled")
    except SystemExit as error:  # of another version of mypyc, say: no reason to have nothing
        print(f"warning: nothing is compiled: {error}", file=sys.stderr)  # noqa: T201
        return []
    for extension in found:
        extension.optional = True
    return found


if __name__ == "__main__":
    from setuptools import setup

    setup(ext_modules=extensions())
