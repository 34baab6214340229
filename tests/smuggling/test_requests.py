"""What others read otherwise: refused, or read as nginx and h11 do (RFC 9112 §11.2).

Each entry of the corpus goes to the real daemon, which proxies to an upstream that keeps what
comes; to a real nginx; and through h11. The daemon passes on what it has seen, so what the upstream
got is what was decided. It must be what the others saw, or, behind a refusal, the beginning of it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.front.inbound import Inbound
from daemon.front.refusal import Refusal
from daemon.front.request_reader import RequestReader
from tests.smuggling.corpus import CHUNKED, ENTRIES, Entry, post
from tests.smuggling.judges import by_h11, logged, nginx
from tests.smuggling.wire import Kept, Seen, Upstream, exchange, running

FRAMING = {b"content-length", b"transfer-encoding"}
NOT_UPSTREAM = {
    b"connection",
    b"keep-alive",
    b"upgrade",
    b"http2-settings",
    b"te",
    b"trailer",
    b"expect",
}


@dataclass
class Readings:
    """How everybody read the corpus. `answers` are the daemon's, by entry."""

    ours: list[Seen]
    nginx: list[Seen]
    answers: dict[str, bytes]
    kept: list[Kept]


@pytest.fixture(name="readings", scope="module")
def _readings(
    serve_all: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Readings]:
    texts = {entry.name: entry.sent for entry in ENTRIES}
    assert len(texts) == len(ENTRIES)
    folder: Path = tmp_path_factory.mktemp("nginx")
    with running(Upstream()) as upstream, nginx(folder) as (port, log):
        daemon = serve_all(
            {"bundle_version": 1, "policies": []},
            mode="reverse_proxy",
            backend_url=f"http://127.0.0.1:{upstream.port}",
            header_timeout=0.5,
            idle_timeout=0.5,
        )
        answers = exchange(daemon.port, texts)
        exchange(port, texts)
        yield Readings(upstream.seen, logged(log), answers, upstream.kept)


def of(entry: Entry, seen: list[Seen]) -> list[Seen]:
    return [each for each in seen if f"/{entry.name}:" in each.target]


def refused(answer: bytes) -> bool:
    """Say whether the last thing said is a refusal of the bytes."""
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)
    closed = b"Connection: close" in answer
    return bool(statuses) and (
        closed or statuses[-1] in {b"400", b"408", b"417", b"431", b"501", b"505"}
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_it_is_refused_or_read_as_the_others_read_it(readings: Readings, entry: Entry) -> None:
    ours = of(entry, readings.ours)
    judges = {"nginx": of(entry, readings.nginx), "h11": by_h11(entry.sent)}
    for name, theirs in judges.items():
        same = ours == (theirs[: len(ours)] if refused(readings.answers[entry.name]) else theirs)
        assert same is (name not in entry.more_than), (name, ours, theirs)


def test_the_corpus_is_read_and_refused_in_good_measure(readings: Readings) -> None:
    """A comparison of nothing with nothing would pass, too."""
    for judge in (readings.ours, readings.nginx):
        seen = {each.target.partition(":")[0] for each in judge}
        assert {"/plain-get", "/plain-post", "/plain-chunked", "/pipelined-chunked"} <= seen
        assert len(seen) >= 40
    count = sum(refused(answer) for answer in readings.answers.values())
    assert count >= 120


def test_nothing_but_well_framed_requests_goes_upstream(readings: Readings) -> None:
    for kept in readings.kept:
        assert kept.faults == []
        assert len(kept.seen) == len(kept.heads)
        for head in kept.heads:
            names = [name.lower() for name, _ in head]
            assert sum(name.replace(b"_", b"-") in FRAMING for name in names) <= 1
            assert b"transfer-encoding" not in names  # every body here was read before
            assert names.count(b"host") == 1
            assert not NOT_UPSTREAM & set(names)


class Taken:
    """Keeps what a reader hands over."""

    def __init__(self) -> None:
        self.requests: list[tuple[object, ...]] = []

    def begun(self) -> None: ...

    def expects(self) -> None: ...

    def keeps(self, _size: int) -> None: ...

    def take(self, inbound: Inbound, /) -> None:
        self.complete(inbound, True, "1.1")  # noqa: FBT003 - kept alive

    def complete(self, inbound: Inbound, keep: bool, version: str, /) -> None:  # noqa: FBT001
        parts = (inbound.method, inbound.target, dict(inbound.headers), inbound.body)
        self.requests.append((*parts, list(inbound.raw), keep, version))

    def excess(self, _chunk: bytes) -> None: ...

    def excess_ended(self) -> None: ...


def read(pieces: Iterable[bytes]) -> list[tuple[object, ...]]:
    taken = Taken()
    reader = RequestReader(
        taken, "p", trusted=False, max_head=8192, max_body=8192, max_fields=128, verbatim=True
    )
    try:
        for piece in pieces:
            reader.feed(piece)
    except Refusal as refusal:
        taken.requests.append((refusal.status, refusal.reason))
    # What follows the last request of a connection is thrown away, however it reads.
    last = next((at for at, each in enumerate(taken.requests) if each[-2] is False), None)
    return taken.requests[: None if last is None else last + 1]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_pieces_are_read_as_the_whole(entry: Entry) -> None:
    whole = read([entry.sent])
    assert read(entry.sent[at : at + 1] for at in range(len(entry.sent))) == whole
    for at in range(0, len(entry.sent), 7):
        assert read([entry.sent[:at], entry.sent[at:]]) == whole


BIG = 64 << 10
"""More than the daemon keeps of a body in `large`."""


@pytest.fixture(name="large", scope="module")
def _large(serve_all: Callable[..., Any]) -> Iterator[tuple[Any, Upstream]]:
    """Run a daemon that passes bodies on piece by piece, and what is behind it."""
    with running(Upstream()) as upstream:
        yield (
            serve_all(
                {"bundle_version": 1, "policies": []},
                mode="reverse_proxy",
                backend_url=f"http://127.0.0.1:{upstream.port}",
                max_body_bytes=1000,
                header_timeout=1,
                idle_timeout=1,
            ),
            upstream,
        )


@pytest.mark.parametrize(
    "lines",
    [
        (CHUNKED,),
        (CHUNKED, b"Content_Length: 5"),
        (CHUNKED, b"Content-Length : 5"),
        (CHUNKED, b"Content-Length: 5"),
        (b"Transfer_Encoding: chunked", b"Content-Length: %d" % BIG),
        (b"Content_Length: 5", b"Content-Length: %d" % BIG),
        (b"Content-Length: %020d" % BIG,),
    ],
)
def test_a_body_in_pieces_is_one_request_upstream(
    large: tuple[Any, Upstream], lines: tuple[bytes, ...]
) -> None:
    daemon, upstream = large
    before = len(upstream.seen)
    rest = BIG // 2
    inner = b"POST /smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % rest
    body = (b"hello" + inner).ljust(BIG, b"x")
    sent = body if CHUNKED not in lines else b"%x\r\n%b\r\n0\r\n\r\n" % (BIG, body)
    answer = exchange(daemon.port, {"one": post(*lines, body=sent, target=b"/outer")})["one"]
    assert not [fault for kept in upstream.kept for fault in kept.faults]
    seen = upstream.seen[before:]
    if answer.startswith(b"HTTP/1.1 400 "):
        assert seen == []
    else:
        assert seen == [Seen("POST", "/outer", body)]
        assert answer.startswith(b"HTTP/1.1 200 ")
