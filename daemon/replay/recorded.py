"""From a decision record (§19) back to a request, as far as a record goes.

Records hold no bodies, no queries and no credentials, so this is a likeness:
- every descriptor comes back as the header, query parameter, claim or edge header it was read from;
  hashed credentials stay hashed, which keeps callers apart as well as their keys did;
- an LLM request comes back with its model and asks for the tokens that were reserved;
- the fingerprint stands in for the body, so that identical requests stay identical (§5.7).
What is lost: costs read from a header or query that is no limit key, and who was a bot.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_EDGE_HEADERS = {
    "ip:country": "X-Country-Code",
    "ip:asn": "X-ASN",
    "ip:type": "X-ASN-Type",
    "ip:tor": "X-Tor-Exit",
}


def is_record(value: Mapping[str, object]) -> bool:
    """Tell a decision record or event from an entry that somebody wrote."""
    return "time" in value and "at" not in value


def moment(value: object) -> float | None:
    """Return epoch seconds from a number or an RFC 3339 text, None from anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def request_of_record(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the entry that stands for a record, None for an event that is no request."""
    if not isinstance(record.get("path"), str) or record.get("event", "decision") != "decision":
        return None
    given = record.get("descriptors")
    descriptors = given if isinstance(given, dict) else {}
    request: dict[str, Any] = {"at": record.get("time"), "path": record["path"]}
    request["headers"] = _named(descriptors, "header:")
    request["query"] = _named(descriptors, "query:")
    request["jwt"] = _named(descriptors, "jwt:") or None
    for key, header in _EDGE_HEADERS.items():
        if key in descriptors:
            request["headers"][header] = str(descriptors[key])
    # The peer is a Unix socket, so the client's address and the edge headers are believed.
    if isinstance(record.get("client_ip"), str):
        request["headers"]["X-Forwarded-For"] = record["client_ip"]
    for key in ("method", "host"):
        if isinstance(record.get(key), str):
            request[key] = record[key]
    request["body"] = _body(record, descriptors)
    return request


def _named(descriptors: Mapping[str, object], kind: str) -> dict[str, str]:
    return {
        key.removeprefix(kind): str(value)
        for key, value in descriptors.items()
        if key.startswith(kind)
    }


def _body(record: Mapping[str, Any], descriptors: Mapping[str, Any]) -> object:
    fingerprint = record.get("fingerprint")
    reserved = record.get("reserved_tokens", record.get("reserved"))
    if "llm:model" in descriptors or (isinstance(reserved, int) and reserved > 0):
        body: dict[str, object] = {"messages": [], "fingerprint": fingerprint}
        if "llm:model" in descriptors:
            body["model"] = str(descriptors["llm:model"])
        if isinstance(reserved, int) and reserved > 0:
            body["max_tokens"] = reserved
        return body
    return fingerprint if isinstance(fingerprint, str) else None
