"""Answers of a front's own endpoints, as HTTP."""

import orjson

from adapters.native import PHRASES
from daemon.front.http1 import HttpConnection


def answer(connection: HttpConnection, status: int, document: object, fields: str = "") -> None:
    """Answer with a JSON document; `fields` are further header lines, each ended by CRLF."""
    respond(connection, status, "application/json", orjson.dumps(document), fields)


def respond(
    connection: HttpConnection, status: int, content_type: str, body: bytes, fields: str = ""
) -> None:
    """Answer with a body."""
    head = (
        f"HTTP/1.1 {status} {PHRASES[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{fields}"
    )
    connection.respond(head.encode(), body)


def no_content(connection: HttpConnection, fields: str = "") -> None:
    """Answer 204."""
    connection.respond(f"HTTP/1.1 204 {PHRASES[204]}\r\n{fields}".encode())
