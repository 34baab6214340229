"""A benchmark must find out a server that only pretends to decide."""

import contextlib
import http.server
import os
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from bench.probe import ProbeError, remaining, require_charges, require_refusals
from bench.scenarios import PLENTY, SCENARIOS
from bench.servers import Server

PLAIN = SCENARIOS["decisions"].variants[0]


@contextlib.contextmanager
def deciding(gate: int, limit: int = PLENTY) -> Iterator[Server]:
    """Serve decisions that refuse `/gate` after `gate` requests and count all others."""
    asked: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            uri = self.headers["X-Original-URI"]
            asked[uri] += 1
            refused = uri == "/gate" and asked[uri] > gate
            self.send_response(429 if refused else 200)
            if refused:
                self.send_header("X-Fairvisor-Reason", "rate_limit_exceeded")
            self.send_header("RateLimit-Limit", str(limit))
            self.send_header("RateLimit-Remaining", str(limit - asked[uri]))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Server("double", os.getpid(), server.server_port)
        finally:
            server.shutdown()
            thread.join()


def test_accepts_a_server_that_refuses() -> None:
    with deciding(gate=2) as server:
        require_refusals(server, PLAIN.refusals)


def test_finds_out_a_server_that_allows_everything() -> None:
    with deciding(gate=1000) as server, pytest.raises(ProbeError, match="expected 429"):
        require_refusals(server, PLAIN.refusals)


def test_reads_what_a_loaded_counter_has_left() -> None:
    with deciding(gate=2) as server:
        assert remaining(server, PLAIN, 1, 1) == PLENTY - 1
        assert remaining(server, PLAIN, 1, 2) == PLENTY - 2


def test_finds_out_a_load_that_nothing_limits() -> None:
    with deciding(gate=2, limit=7) as server, pytest.raises(ProbeError, match="not be limited"):
        remaining(server, PLAIN, 1, 1)


@pytest.mark.parametrize("spent", [1000, 1064])
def test_every_answered_request_is_charged(spent: int) -> None:
    require_charges(spent, requests=1000, cut_off=64, seconds=10)


@pytest.mark.parametrize("spent", [999, 1065])
def test_a_missing_or_double_charge_is_found(spent: int) -> None:
    with pytest.raises(ProbeError, match="took"):
        require_charges(spent, requests=1000, cut_off=64, seconds=10)
