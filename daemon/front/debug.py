"""Debug sessions over HTTP: opening and closing them, and what they add to answers (§7.1, §9.3)."""

from typing import Final

from daemon.engine.debug_fields import debug_fields
from daemon.engine.debug_session import login_cookie, logout_cookie, secret_matches, session_open
from daemon.engine.disclosure import descriptors
from daemon.engine.evaluation import Evaluation
from daemon.front.answers import answer, no_content
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from protocol.decision import Decision

LOGIN: Final = b"/v1/debug/session"
LOGOUT: Final = b"/v1/debug/logout"
PATHS: Final = frozenset({LOGIN, LOGOUT})


class DebugSessions:
    """The sessions that one secret opens. Times are in epoch seconds."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def handle(self, connection: HttpConnection, inbound: Inbound, path: bytes, now: float) -> None:
        """Answer a request for one of `PATHS`."""
        if inbound.method != "POST":
            answer(connection, 405, {"error": "method_not_allowed"}, "Allow: POST\r\n")
        elif path == LOGOUT:
            no_content(connection, f"Set-Cookie: {logout_cookie()}\r\n")
        elif secret_matches(inbound.headers.get(b"x-fairvisor-debug-secret", b""), self._secret):
            cookie = login_cookie(self._secret, now)
            no_content(connection, f"Set-Cookie: {cookie}\r\nCache-Control: no-store\r\n")
        else:
            answer(connection, 403, {"error": "debug_secret_invalid"})

    def fields(
        self,
        inbound: Inbound,
        decision: Decision,
        evaluation: Evaluation | None,
        latency_us: int,
        now: float,
    ) -> bytes:
        """Return the header lines that an answer gets in an open session, else nothing."""
        cookie = inbound.headers.get(b"cookie")
        if cookie is None or not session_open(cookie, self._secret, now):
            return b""
        known = descriptors(evaluation) if evaluation else {}
        fields = debug_fields(decision, latency_us, known)
        return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode()
