"""Reject bodies in the provider's own shape, so that its SDK understands them (behaviour §10.6).

Shapes after the vendors' error pages: platform.openai.com/docs/guides/error-codes,
docs.anthropic.com/en/api/errors, ai.google.dev/gemini-api/docs/troubleshooting.
"""

from collections.abc import Callable
from http import HTTPStatus

import orjson

from daemon.llm.providers import Family

_UNAVAILABLE_REASONS = frozenset(
    {"no_bundle_loaded", "service_unavailable", "upstream_unreachable", "upstream_timeout"}
)

_OPENAI = {
    "rate_limit": ("rate_limit_error", "rate_limit_exceeded"),
    "authentication": ("invalid_request_error", "invalid_api_key"),
    "unavailable": ("server_error", "service_unavailable"),
}
_ANTHROPIC = {
    "rate_limit": "rate_limit_error",
    "authentication": "authentication_error",
    "unavailable": "overloaded_error",
}
_GEMINI = {
    "rate_limit": "RESOURCE_EXHAUSTED",
    "authentication": "UNAUTHENTICATED",
    "unavailable": "UNAVAILABLE",
}


def reject_body(family: Family, reason: str, status: int = 429, retry_after: int = 0) -> bytes:
    """Render the JSON body of a reject.

    The message names `reason`, and `retry_after` in seconds unless it is 0; `status` is the HTTP
    status.
    """
    if status == HTTPStatus.UNAUTHORIZED:
        kind = "authentication"
    elif reason in _UNAVAILABLE_REASONS:
        kind = "unavailable"
    else:
        kind = "rate_limit"
    message = f"request rejected: {reason}"
    if retry_after:
        message += f"; retry after {retry_after} s"
    return orjson.dumps(_SHAPES[family](kind, message, status))


def _openai(kind: str, message: str, _status: int) -> dict[str, object]:
    error_type, code = _OPENAI[kind]
    return {"error": {"message": message, "type": error_type, "param": None, "code": code}}


def _anthropic(kind: str, message: str, _status: int) -> dict[str, object]:
    return {"type": "error", "error": {"type": _ANTHROPIC[kind], "message": message}}


def _gemini(kind: str, message: str, status: int) -> dict[str, object]:
    return {"error": {"code": status, "message": message, "status": _GEMINI[kind]}}


_SHAPES: dict[Family, Callable[[str, str, int], dict[str, object]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
