"""Any bytes as a bundle: a report, never an exception; and what is valid compiles and decides."""

from daemon.engine.sources import Sources
from daemon.engine.verification_keys import UnusableKeyError
from daemon.replay import Replay
from protocol.bundle_text import load
from protocol.request import Request

NOW = 1_770_129_000
_REQUEST = Request(
    method="POST",
    path="/v1/chat/completions",
    headers={b"x-api-key": b"k", b"user-agent": b"curl", b"x-forwarded-for": b"192.0.2.1"},
    query="a=1",
    body=b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}',
)


def one_input(data: bytes) -> None:
    """Load, compile and decide."""
    report = load(data, now=NOW)
    assert (report.bundle is None) == bool(report.errors)
    for problem in (*report.errors, *report.warnings):
        assert problem.path.startswith("$")
        assert problem.message
    if report.bundle is None:
        return
    sources = Sources(draw_id=lambda: bytes(16), shards=2)
    try:
        replay = Replay(report.bundle, sources)
    except UnusableKeyError:
        return
    for second in range(3):
        _, finished = replay.decide(_REQUEST, (NOW + second) * 1_000_000)
        assert finished.decision.status in {200, 401, 429, 503}
