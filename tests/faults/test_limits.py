"""Every bound of the decision API is hit through the real door, and says so in a metric.

Behaviour §4.1, §4.2, §13.2; docs/limits.md lists the bounds, and which of these tests hits which.
"""

import json
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from bench.cpu import parse_stat
from tests.e2e.conftest import Connection, Daemon, _starter, bucket, wait_for

PER_PEER = 5
CONNECTIONS = 40
BACKLOG = 16
BODY = 100_000
FIELDS = 20
PIPELINED = 4
HEADER_TIMEOUT = 2.0
IDLE_TIMEOUT = 4.0
SERIES = 6
RECORDS = 3
RESERVATIONS = 3
MEMORY = 300_000
KEY_CHARS = 64
LATE = 30.0
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
STRANGER = "127.0.0.9"


def bundle() -> dict[str, Any]:
    """Return a bundle with something for each bound."""
    throttle = {
        "name": "spend",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 1_000_000,
            "period": "1d",
            "staged_actions": [
                {"threshold_percent": 1, "action": "throttle", "delay_ms": 500},
                {"threshold_percent": 100, "action": "reject"},
            ],
            "cost_key": "header:x-cost",
        },
    }
    tokens = {
        "name": "tokens",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 1_000_000, "tokens_per_day": 1000},
    }
    policies = [
        bucket("key", "/key/", "header:x-api-key", 0.0001, 3),
        {"id": "slow", "spec": {"selector": {"pathPrefix": "/slow/"}, "rules": [throttle]}},
        {"id": "llm", "spec": {"selector": {"pathPrefix": "/v1/chat/"}, "rules": [tokens]}},
    ]
    policies += [
        bucket(f"p{number:02}", f"/p{number}/", "header:x-api-key", 1000, 1000)
        for number in range(2 * SERIES)
    ]
    return {"bundle_version": 1, "policies": policies}


@pytest.fixture(name="daemon", scope="module")
def _daemon() -> Iterator[Daemon]:
    with ExitStack() as stack:
        yield _starter(stack)(
            bundle(),
            unix=True,
            trusted_proxies="127.0.0.1",
            max_connections=CONNECTIONS,
            max_connections_per_peer=PER_PEER,
            backlog=BACKLOG,
            max_body_bytes=BODY,
            max_body_memory=2 * BODY,
            max_header_fields=FIELDS,
            max_pipelined=PIPELINED,
            header_timeout=HEADER_TIMEOUT,
            idle_timeout=IDLE_TIMEOUT,
            min_body_rate=1024,
            max_series=SERIES,
            record_queue=RECORDS,
            max_reservations=RESERVATIONS,
            shared_dict_size=MEMORY,
            max_key_chars=KEY_CHARS,
        )


def metric(daemon: Daemon, name: str) -> float:
    """Return a metric, or the sum of the series that begin so, asked where nothing is ever full."""
    with daemon.connect("unix") as connection:
        text = connection.request("/metrics").body.decode()
    line = re.escape(f"fairvisor_{name}") + (".* " if "{" in name else " ")
    return sum(map(float, re.findall(rf"^{line}(\S+)$", text, re.MULTILINE)))


def series(daemon: Daemon, name: str) -> dict[str, float]:
    """Return a metric by its labels as they are printed."""
    with daemon.connect("unix") as connection:
        text = connection.request("/metrics").body.decode()
    found = re.findall(rf"^fairvisor_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def ask_from(sock: socket.socket) -> bytes:
    """Send one request; return its answer as far as it comes at once."""
    sock.sendall(GET)
    return sock.recv(4096)


def refused(daemon: Daemon, text: bytes, why: str) -> int:
    """Send bytes that are refused; return the status, and see that it is counted."""
    before = metric(daemon, f'requests_refused_total{{why="{why}"')
    with daemon.connect() as connection:
        connection.send(text)
        status = connection.answer().status
    assert metric(daemon, f'requests_refused_total{{why="{why}"') == before + 1
    return status


def test_connections_of_one_peer(daemon: Daemon) -> None:
    before = metric(daemon, 'connections_refused_total{reason="peer"')
    with ExitStack() as stack:

        def connect(source: str) -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", daemon.port), LATE, (source, 0))
            return stack.enter_context(sock)

        answers = [ask_from(connect(STRANGER)) for _ in range(PER_PEER + 3)]
        assert [answer[9:12] for answer in answers] == [b"200"] * PER_PEER + [b"503"] * 3
        assert b"too many connections from this address" in answers[-1]
        assert b"Retry-After: 1\r\n" in answers[-1]
        assert ask_from(connect("127.0.0.10"))[9:12] == b"200"
        assert [ask_from(connect("127.0.0.1"))[9:12] for _ in range(PER_PEER + 3)] == [b"200"] * 8
    assert metric(daemon, 'connections_refused_total{reason="peer"') == before + 3
    said = daemon.said()
    assert said.count(f"refused a connection from {STRANGER}: it has ") == 1
    assert "FAIRVISOR_TRUSTED_PROXIES" in said

    def let_in() -> bool:
        with socket.create_connection(("127.0.0.1", daemon.port), LATE, (STRANGER, 0)) as sock:
            return ask_from(sock)[9:12] == b"200"

    wait_for(let_in, LATE, "the peer is let in again")


def test_connections_of_one_listener_leave_the_other_alone(daemon: Daemon) -> None:
    wait_for(lambda: metric(daemon, "connections") == 1, LATE, "only who asks")
    before = metric(daemon, 'connections_refused_total{reason="listener"')
    with ExitStack() as stack:
        statuses = []
        for _ in range(CONNECTIONS + 5):
            connection = stack.enter_context(daemon.connect())
            connection.send(GET)
            statuses.append(connection.answer().status)
        assert statuses == [200] * CONNECTIONS + [503] * 5
        with daemon.connect("unix") as connection:
            assert connection.request("/livez").status == 200
        assert metric(daemon, "connections") == CONNECTIONS + 1
    assert metric(daemon, 'connections_refused_total{reason="listener"') == before + 5


def test_bodies_of_all_connections(daemon: Daemon) -> None:
    wait_for(lambda: metric(daemon, "request_body_bytes") == 0, LATE, "no body is held")
    head = b"POST /v1/decision HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY
    with ExitStack() as stack:
        for _ in range(2):
            upload = stack.enter_context(daemon.connect())
            upload.send(head + b"x" * (BODY - 100))
        held = 2 * (BODY - 100)
        wait_for(lambda: metric(daemon, "request_body_bytes") == held, LATE, "bodies are held")
        assert refused(daemon, head + b"x" * BODY, "bodies") == 503
        upload.send(b"x" * 100)
        assert upload.answer().status == 200
        with daemon.connect() as connection:
            connection.send(head + b"x" * BODY)
            assert connection.answer().status == 200
    wait_for(lambda: metric(daemon, "request_body_bytes") == 0, LATE, "no body is held")


def test_header_fields(daemon: Daemon) -> None:
    fields = b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (FIELDS - 1)
    with daemon.connect() as connection:
        connection.send(fields + b"\r\n")
        assert connection.answer().status == 200
    assert refused(daemon, fields + b"X: y\r\n\r\n", "head") == 431
    assert refused(daemon, b"nonsense\r\n\r\n", "malformed") == 400


def test_pipelined_requests(daemon: Daemon) -> None:
    before = metric(daemon, 'requests_refused_total{why="pipelined"')
    with daemon.connect() as connection:
        connection.ask(headers={"X-Original-URI": "/slow/", "X-API-Key": "q", "X-Cost": "20000"})
        connection.send(GET * (PIPELINED + 1))
        statuses = [connection.answer().status for _ in range(PIPELINED + 2)]
        assert statuses == [200] * (PIPELINED + 1) + [400]
    assert metric(daemon, 'requests_refused_total{why="pipelined"') == before + 1


def test_a_body_that_drips_and_one_that_keeps_up(daemon: Daemon) -> None:
    before = metric(daemon, 'requests_refused_total{why="slow"')
    head = b"POST /v1/decision HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY
    with daemon.connect() as drips, daemon.connect() as keeps_up:
        drips.send(head)
        keeps_up.send(head)
        sent, began = 0, time.monotonic()
        while time.monotonic() - began < 2 * HEADER_TIMEOUT:
            keeps_up.send(b"x" * 2048)  # five times what is asked for
            sent += 2048
            with suppress(OSError):
                drips.send(b"x")
            time.sleep(0.2)
        keeps_up.send(b"x" * (BODY - sent))
        assert keeps_up.answer().status == 200
        assert drips.answer().status == 408
    assert metric(daemon, 'requests_refused_total{why="slow"') == before + 1


def test_idle_connections(daemon: Daemon) -> None:
    before = metric(daemon, 'connections_closed_total{why="idle"')
    with daemon.connect() as connection:
        assert connection.request("/livez").status == 200
        assert connection.rest() == b""
    assert metric(daemon, 'connections_closed_total{why="idle"') > before


def test_series_of_a_metric(daemon: Daemon) -> None:
    before = metric(daemon, "decisions_total{")
    folded = metric(daemon, "series_folded_total")
    with daemon.connect("unix") as connection:
        for number in range(2 * SERIES):
            headers = {"X-Original-URI": f"/p{number}/", "X-API-Key": "a"}
            assert connection.request(headers=headers).status == 200
    found = series(daemon, "decisions_total")
    assert len(found) == SERIES + 1
    assert sum(found.values()) == before + 2 * SERIES
    other = 'action="other",policy="other",reason="other",route="other"'
    assert found[other] >= SERIES
    assert metric(daemon, "series_folded_total") > folded


@pytest.mark.parametrize(("size", "digested"), [(20_000, 8), (KEY_CHARS, 8), (KEY_CHARS - 1, 0)])
def test_long_keys_are_told_apart(daemon: Daemon, size: int, digested: int) -> None:
    before = metric(daemon, "keys_digested_total")
    keys = ["k" * size + end for end in "ab"]
    with daemon.connect("unix") as connection:
        for key in keys:
            headers = {"X-Original-URI": "/key/", "X-API-Key": key}
            statuses = [connection.request(headers=headers).status for _ in range(4)]
            assert statuses == [200] * 3 + [429]
    assert metric(daemon, "keys_digested_total") == before + digested


def test_counters(daemon: Daemon) -> None:
    before = metric(daemon, "counters_evicted_total{")
    hot = {"X-Original-URI": "/key/", "X-API-Key": "hot"}
    with daemon.connect("unix") as connection:
        assert [connection.request(headers=hot).status for _ in range(4)] == [200] * 3 + [429]
        for number in range(4000):
            headers = {"X-Original-URI": "/key/", "X-API-Key": f"one-of-many-{number}"}
            assert connection.request(headers=headers).status == 200
            if number % 20 == 0:
                assert connection.request(headers=hot).status == 429
    wait_for(lambda: metric(daemon, "counters_evicted_total{") > before, LATE, "counters go")
    # About 230 bytes each; a sweep comes every tenth of a second.
    wait_for(lambda: metric(daemon, "counters{") < MEMORY / 150, LATE, "the bound is kept")
    with daemon.connect("unix") as connection:
        assert connection.request(headers=hot).status == 429


def test_reservations(daemon: Daemon) -> None:
    body = json.dumps({"model": "m", "messages": [], "max_tokens": 100}).encode()
    dropped = metric(daemon, "reservations_dropped_total{")
    with daemon.connect("unix") as connection:

        def reserve() -> str:
            path, key = "/v1/decision/v1/chat/completions", {"X-API-Key": "r"}
            answer = connection.request(path, key, method="POST", body=body)
            assert answer.status == 200
            return answer.headers["x-fairvisor-reservation"]

        def settle(reservation: str) -> int:
            text = json.dumps({"reservation": reservation, "usage": {"total_tokens": 1}})
            return connection.request("/v1/settle", method="POST", body=text.encode()).status

        held = [reserve() for _ in range(RESERVATIONS + 2)]
        assert [settle(each) for each in held] == [409] * 2 + [204] * RESERVATIONS
    assert metric(daemon, "reservations_dropped_total{") == dropped + 2


def test_decision_records(daemon: Daemon) -> None:
    before = metric(daemon, "records_dropped_total")
    headers = "X-Original-URI: /key/\r\nX-API-Key: records\r\n"
    request = f"GET /v1/decision HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode()
    with daemon.connect("unix") as connection:
        for _ in range(100):
            connection.send(request * PIPELINED)
            for _ in range(PIPELINED):
                connection.answer()
    rejected = 100 * PIPELINED - 3
    written = 0

    def all_told() -> bool:
        nonlocal written
        text = daemon.log.read_text()
        written = sum("429" in line and '"/key/"' in line for line in text.splitlines())
        return written + metric(daemon, "records_dropped_total") - before >= rejected

    wait_for(all_told, LATE, "every record is written or counted")
    assert metric(daemon, "records_dropped_total") - before > 0
    assert written > 0


def test_the_admin_socket(daemon: Daemon) -> None:
    with ExitStack() as stack:
        statuses = []
        for _ in range(18):
            connection = stack.enter_context(daemon.connect("admin"))
            connection.send(b"GET /v1/admin/breakers HTTP/1.1\r\nHost: a\r\n\r\n")
            statuses.append(connection.answer().status)
    assert statuses == [200] * 16 + [503] * 2


def test_scrapes(daemon: Daemon) -> None:
    refused_scrapes = 'requests_refused_total{why="scrapes"'
    before = metric(daemon, refused_scrapes)
    with ExitStack() as stack:
        wait_for(lambda: metric(daemon, "connections") == 1, LATE, "only who asks")
        ways = ["tcp", "unix"] * (CONNECTIONS - 4)
        clients = []
        for way in ways:  # one after the other: few may wait to be taken
            clients.append(stack.enter_context(daemon.connect(way)))
            assert clients[-1].request("/livez").status == 200
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            for client in clients:
                client.ask("/metrics")
            busy = clients[:0]
            for client in clients:
                client.sock.settimeout(0)
            deadline = time.monotonic() + LATE
            while len(busy) < len(clients) - 64:
                assert time.monotonic() < deadline
                busy += [each for each in clients if each not in busy and has_answer(each)]
                time.sleep(0.02)
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        for client in clients:
            client.sock.settimeout(LATE)
        statuses = [client.answer().status for client in clients]
    assert (statuses.count(200), statuses.count(503)) == (64, len(clients) - 64)
    assert metric(daemon, refused_scrapes) == before + len(clients) - 64


def has_answer(client: Connection) -> bool:
    try:
        return bool(client.sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_connections_that_wait_to_be_taken(daemon: Daemon) -> None:
    front = daemon.pids()["front 0"]
    with ExitStack() as stack:
        waiting: list[Connection] = []
        os.kill(front, signal.SIGSTOP)
        try:
            for _ in range(BACKLOG + 10):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.settimeout(0)
                try:
                    sock.connect(daemon.unix)
                except BlockingIOError:
                    break
                sock.settimeout(LATE)
                sock.sendall(GET)
                waiting.append(sock)
        finally:
            os.kill(front, signal.SIGCONT)
        assert len(waiting) in {BACKLOG, BACKLOG + 1}
        assert [sock.recv(4096)[9:12] for sock in waiting] == [b"200"] * len(waiting)


def test_a_front_without_descriptors_neither_spins_nor_dies(daemon: Daemon) -> None:
    front = daemon.pids()["front 0"]
    stat = Path(f"/proc/{front}/stat")
    with ExitStack() as stack:
        inside = stack.enter_context(daemon.connect())
        assert inside.request("/livez").status == 200
        limits = resource.prlimit(front, resource.RLIMIT_NOFILE)
        assert limits[0] == limits[1] == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        used = len(os.listdir(f"/proc/{front}/fd"))  # noqa: PTH208 - their number only
        resource.prlimit(front, resource.RLIMIT_NOFILE, (used, limits[1]))
        try:
            waiting = [stack.enter_context(daemon.connect()) for _ in range(5)]
            ticks = parse_stat(stat.read_text()).ticks
            began = time.monotonic()
            while time.monotonic() - began < 1.0:
                assert inside.request("/livez").status == 200
                time.sleep(0.02)
            spent = (parse_stat(stat.read_text()).ticks - ticks) / os.sysconf("SC_CLK_TCK")
        finally:
            resource.prlimit(front, resource.RLIMIT_NOFILE, limits)
        assert spent < 0.5
        for connection in waiting:  # turned away, or taken now
            with closing(connection), suppress(EOFError, ConnectionError):
                connection.send(GET)
                assert connection.answer().status == 200

    def served() -> bool:
        with suppress(EOFError, ConnectionError), daemon.connect() as connection:
            return connection.request("/livez").status == 200
        return False

    wait_for(served, LATE, "connections are taken again")
    assert daemon.pids()["front 0"] == front


def test_a_front_makes_room_below_the_limit_of_open_files() -> None:
    """A limit too low for what was asked is told, and the daemon's own files are left alone."""
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        start: Callable[..., Daemon] = _starter(stack)
        daemon = start(bundle(), ready=False, max_connections=1000)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (200, 200))
        daemon.until_ready()
        assert "leaves room for" in daemon.said()
        assert "of 200 open files" in daemon.said()
        sockets = []
        statuses = []
        for _ in range(200):
            sock = stack.enter_context(daemon.connect())
            sockets.append(sock)
            sock.send(GET)
            statuses.append(sock.answer().status)
        assert 50 < statuses.count(200) < 150
        assert statuses.count(200) + statuses.count(503) == 200
        assert sockets[0].request("/metrics").status == 200
        headers = {"X-Original-URI": "/key/", "X-API-Key": "a"}
        assert sockets[0].request(headers=headers).headers["ratelimit-remaining"] == "2"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == ours
