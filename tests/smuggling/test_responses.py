"""What an upstream says is one answer, whole or visibly not, and never the next client's."""

from collections.abc import Callable, Iterator
from typing import Any

import h11
import pytest

from tests.e2e.conftest import wait_for
from tests.smuggling.responses import CASES, LATE, Case
from tests.smuggling.wire import Upstream, exchange, running

CLEAN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean"


def upstream_answers(target: str) -> list[bytes]:
    found = next((case for case in (*CASES, *LATE) if target == f"/{case.name}"), None)
    return [CLEAN] if found is None else list(found.pieces)


def request(method: str, target: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.fixture(name="stage", scope="module")
def _stage(serve_all: Callable[..., Any]) -> Iterator[tuple[Any, Upstream]]:
    """Run a daemon before an upstream that answers as the cases say."""
    with running(Upstream(upstream_answers)) as upstream:
        yield (
            serve_all(
                {"bundle_version": 1, "policies": []},
                mode="reverse_proxy",
                backend_url=f"http://127.0.0.1:{upstream.port}",
                idle_timeout=0.5,
            ),
            upstream,
        )


@pytest.fixture(name="answers", scope="module")
def _answers(stage: tuple[Any, Upstream]) -> dict[str, bytes]:
    """Return what clients got that asked for a case and then for something clean."""
    texts = {
        case.name: request(case.method, f"/{case.name}") + request("GET", "/clean")
        for case in CASES
    }
    return exchange(stage[0].port, texts)


def read(raw: bytes, methods: list[str]) -> list[tuple[int, bytes | None]]:
    """Return status and body of each answer, None for a body that breaks off."""
    found: list[tuple[int, bytes | None]] = []
    client = h11.Connection(h11.CLIENT)
    client.receive_data(raw)
    client.receive_data(b"")
    for method in methods:
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        status, body = 0, b""
        try:
            while not isinstance(event := client.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.ConnectionClosed):
                    return found
        except h11.RemoteProtocolError:
            return [*found, (status, None)]
        found.append((status, body))
        if client.their_state is not h11.DONE or client.our_state is not h11.DONE:
            break
        client.start_next_cycle()
    assert not client.trailing_data[0]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_client_gets_one_answer_and_the_next_is_its_own(
    answers: dict[str, bytes], case: Case
) -> None:
    raw = answers[case.name]
    assert b"forged" not in raw.lower()
    (status, body), *rest = read(raw, [case.method, "GET"])
    if case.status == 502:
        assert (status, body) == (502, b'{"error":"upstream_unreachable"}')
    elif case.body is None:
        assert body is None
        assert rest == []
        return
    else:
        assert (status, body) == (case.status, case.body)
    assert rest == [(200, b"clean")]


@pytest.mark.parametrize("case", LATE, ids=lambda case: case.name)
def test_what_nobody_asked_for_ends_the_connection(stage: tuple[Any, Upstream], case: Case) -> None:
    daemon, upstream = stage
    with daemon.connect() as connection:
        connection.request(f"/{case.name}", method=case.method)
        (kept,) = [each for each in upstream.kept if f"/{case.name}" in str(each.seen)]
        wait_for(lambda: kept.closed, 20, "the connection closed")
        answer = connection.request("/clean")
    assert (answer.status, answer.body) == (200, b"clean")
