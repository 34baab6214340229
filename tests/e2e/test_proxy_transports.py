"""Upstreams over TLS and over Unix sockets, in every mode (§10.1)."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams.certificates import secured
from tests.upstreams.faulty import Faulty

Serve = Callable[..., Any]
MODES: list[tuple[str, dict[str, str], str]] = [
    ("reverse_proxy", {"llm_format": "openai"}, "backend_url"),
    ("wrapper", {"wrapper_auth": "passthrough"}, "provider_openai_url"),
    ("hybrid", {"wrapper_auth": "passthrough"}, "provider_openai_url"),
]
BUNDLE = {
    "bundle_version": 1,
    "policies": [{
        "id": "p",
        "spec": {
            "selector": {"pathPrefix": "/"},
            "rules": [{
                "name": "tokens",
                "limit_keys": ["ip:address"],
                "algorithm": "token_bucket_llm",
                "algorithm_config": {"tokens_per_minute": 10**9, "default_max_completion": 50},
            }],
        },
    }],
}  # fmt: skip


def ask(daemon: Any, *, stream: bool, plan: str = "") -> bytes:  # noqa: ANN401 - the fixture's
    body = json.dumps({"stream": stream, "messages": [{"role": "user", "content": "hi"}]})
    with daemon.connect() as connection:
        connection.send(
            f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Plan: {plan}\r\n"
            f"Authorization: Bearer key\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        answer: bytes = connection.rest()
        return answer


def settled(daemon: Any) -> float:  # noqa: ANN401
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    lines = [line for line in text.splitlines() if 'type="actual"' in line]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


@pytest.mark.parametrize(("mode", "more", "variable"), MODES)
@pytest.mark.parametrize("way", ["tls", "unix"])
def test_whole_answers_and_streams(  # noqa: PLR0913 - the columns of the table
    serve: Serve, tmp_path: Path, wait_until: Callable[..., None],
    way: str, mode: str, more: dict[str, str], variable: str,
) -> None:  # fmt: skip
    tls = secured(tmp_path, "localhost") if way == "tls" else None
    with Faulty(tls=tls.server if tls else None, path=None if tls else tmp_path / "up") as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")
        trust = tmp_path if tls is None else tls.authority
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(trust))
            daemon = serve(BUNDLE, mode=mode, **more, **{variable: url})
        for stream in (False, True, True):
            answer = ask(daemon, stream=stream)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.count(b"tok ") == 5
        wait_until(lambda: settled(daemon) == 36, 20.0, "three times 7 and 5")
        assert ask(daemon, stream=False, plan="short").endswith(b"usag")
        assert ask(daemon, stream=True, plan="reset").count(b"tok ") == 5
        assert (
            f"Host: {'localhost:' + str(upstream.port) if tls else 'localhost'}"
            in (upstream.heads[0])
        )
        if tls is not None:
            assert set(tls.asked) == {"localhost"}


@pytest.mark.parametrize(
    ("host", "expired", "trusted", "why"),
    [
        ("localhost", False, False, "self-signed certificate in certificate chain|unable to get"),
        ("other.test", False, True, "not valid for 'localhost'|mismatch"),
        ("localhost", True, True, "expired"),
    ],
)  # fmt: skip
def test_a_certificate_that_does_not_fit(  # noqa: PLR0913 - the columns of the table
    serve: Serve,
    tmp_path: Path,
    host: str,
    expired: bool,  # noqa: FBT001
    trusted: bool,  # noqa: FBT001
    why: str,
) -> None:
    tls = secured(tmp_path, host, expired=expired)
    with Faulty(tls=tls.server) as upstream, pytest.MonkeyPatch.context() as patch:
        if trusted:
            patch.setenv("SSL_CERT_FILE", str(tls.authority))
        url = upstream.url.replace("127.0.0.1", "localhost")
        daemon = serve(BUNDLE, mode="reverse_proxy", llm_format="openai", backend_url=url)
        for _ in range(2):
            assert ask(daemon, stream=False).startswith(b"HTTP/1.1 502")
        lines = [line for line in daemon.said().splitlines() if "cannot be reached" in line]
        assert len(lines) == 1  # once a minute
        assert f"upstream localhost:{upstream.port} cannot be reached: its certificate" in lines[0]
        assert any(part in lines[0] for part in why.split("|")), lines[0]
        assert upstream.heads == []


def test_a_plain_server_behind_https_and_a_socket_that_is_not_there(
    serve: Serve, tmp_path: Path
) -> None:
    def talk() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            connection.recv(65_536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        daemon = serve(BUNDLE, mode="reverse_proxy", llm_format="openai", backend_url=url)
        assert ask(daemon, stream=False).startswith(b"HTTP/1.1 502")
        thread.join(10)
        assert "cannot be reached: TLS failed" in daemon.said()
    daemon = serve(BUNDLE, mode="reverse_proxy", backend_url=f"unix:{tmp_path}/nobody")
    assert ask(daemon, stream=False).startswith(b"HTTP/1.1 502")
    assert f"upstream unix:{tmp_path}/nobody cannot be reached: No such file" in daemon.said()
