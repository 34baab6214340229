"""What is compiled, where it lies, and whether it belongs to the sources that are there."""

import sys
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

ROOMS: Final = (
    "daemon.engine.context",
    "daemon.engine.costs",
    "daemon.engine.engine",
    "daemon.engine.evaluation",
    "daemon.engine.extract",
    "daemon.engine.limits",
    "daemon.engine.outcome",
    "daemon.engine.settlement",
    "daemon.engine.settlement_record",
    "daemon.engine.stream_caps",
    "daemon.front.app",
    "daemon.front.http1",
    "daemon.front.in_flight",
    "daemon.front.ledger",
    "daemon.front.links",
    "daemon.front.plain_chunks",
    "daemon.front.plain_heads",
    "daemon.front.proxy.actions",
    "daemon.front.proxy.app",
    "daemon.front.proxy.asked",
    "daemon.front.proxy.exchange",
    "daemon.front.proxy.heads",
    "daemon.front.proxy.passage",
    "daemon.front.proxy.relay",
    "daemon.front.proxy.route",
    "daemon.front.request_reader",
    "daemon.front.settler",
    "daemon.front.tally",
    "daemon.front.upstream",
    "daemon.front.upstream_headers",
    "daemon.front.upstream_pool",
    "daemon.llm.cut",
    "daemon.llm.estimate",
    "daemon.llm.event_shape",
    "daemon.llm.extraction",
    "daemon.llm.framing",
    "daemon.llm.meter",
    "daemon.llm.openai",
    "daemon.llm.openai_stream",
    "daemon.llm.sse",
    "daemon.llm.stream_format",
    "daemon.llm.usage",
    "protocol.fields",
    "protocol.frames",
)
"""Modules that are compiled, together."""
SUFFIX: Final = EXTENSION_SUFFIXES[0]
_PACKAGES: Final = ("adapters", "daemon", "protocol")


def root() -> Path:
    """Return the folder that the sources' packages are in."""
    return Path(__file__).parents[2]


def digest(folder: Path) -> str:
    """Return what tells one state of the sources from all others, in hexadecimal.

    All of them, because compiled code also holds what it imports from rooms that are not compiled.
    """
    found = sha256(f"{sys.version} {SUFFIX}".encode())
    for package in _PACKAGES:
        for file in sorted((folder / package).rglob("*.py")):
            found.update(f"\0{file.relative_to(folder)}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()[:32]


def shelf() -> Path:
    """Return the folder in this environment where all that was compiled lies."""
    return Path(sys.prefix) / "lib" / "fairvisor-compiled"


def compiled() -> Path | None:
    """Return the folder of what was compiled from these very sources, None if there is none."""
    if not shelf().is_dir():
        return None
    folder = shelf() / digest(root())
    return folder if folder.is_dir() else None
