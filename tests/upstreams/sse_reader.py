"""Read what a stream of server-sent events says."""

import json
from typing import Any


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Return the JSON payloads of a stream; its end marker is none."""
    lines = stream.decode().split("\n")
    payloads = (line[6:].strip() for line in lines if line.startswith("data: "))
    return [json.loads(each) for each in payloads if each != "[DONE]"]
