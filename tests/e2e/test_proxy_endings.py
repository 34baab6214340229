"""Every way an exchange can end, and what is charged then: the table of docs/llm-proxy.md.

Each row of the table is an `Ending` here, and the other way round. A prompt of 28 bytes is
estimated at 7 tokens, which is what the provider counts; every request reserves 100 tokens more.
"""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams.certificates import secured
from tests.upstreams.faulty import PROMPT, WORD, Faulty

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/llm-proxy.md").read_text()
TABLE = TEXT.partition("| What ends it | What is charged |\n|---|---|\n")[2].partition("\n\n")[0]
CAP = 100
COUNT = 5
USED = PROMPT + COUNT
ESTIMATE = PROMPT + CAP
CHAT = "/openai/v1/chat/completions"
CUT = "/groq/v1/chat/completions"
SLOW = "/mistral/v1/chat/completions"
NOBODY = "/together/v1/chat/completions"
STRANGER = "/cerebras/v1/chat/completions"
Serve = Callable[..., Any]
Daemon = Any
"""The `Daemon` of conftest.py."""


@dataclass(frozen=True)
class Ending:
    """A request, when its client leaves, and what must follow.

    `leaves`: after so many bytes of the answer, -1 with the request half sent, None not at all.
    `status` is what the client sees, 0 for nothing; `charged` are tokens, None where nothing is
    reserved.
    """

    outcome: str
    charged: int | None
    plan: str = ""
    target: str = CHAT
    stream: bool = False
    leaves: int | None = None
    status: int = 200
    why: str = ""
    tokens: int = COUNT
    big: bool = False
    fields: dict[str, object] = field(default_factory=dict)


ENDINGS: dict[str, Ending] = {
    "a whole answer with usage": Ending("used", USED),
    "one that is sent byte by byte": Ending("used", USED, "drip"),
    "one behind `100` and `103`": Ending("used", USED, "early"),
    "one of HTTP/1.0, ended by its connection": Ending("used", USED, "old"),
    "one compressed with gzip or deflate": Ending("used", USED, "gzip"),
    "an error with usage": Ending("used", USED, "bill", status=402),
    "an error without usage": Ending("returned", 0, "error", status=500),
    "nobody listens, or the name is unknown": Ending("returned", 0, target=NOBODY, status=502),
    "a certificate that is not trusted": Ending("returned", 0, target=STRANGER, status=502),
    "the upstream cuts the connection before its answer": Ending(
        "returned", 0, "refuse", status=502
    ),
    "an answer that is not HTTP": Ending("returned", 0, "garbage", status=502),
    "a head of more than 64 KiB": Ending("returned", 0, "heads", status=502),
    "silence instead of an answer": Ending("returned", 0, "hang", status=504),
    "an answer without usage": Ending("kept", ESTIMATE, "bare", why="usage_not_found"),
    "one that is not JSON": Ending("kept", ESTIMATE, "text", why="json_parse_error"),
    "one of more than 1 MiB": Ending("kept", ESTIMATE, "big", why="body_too_large"),
    "one compressed in another way": Ending("kept", ESTIMATE, "br", why="compressed"),
    "one that breaks off": Ending("kept", ESTIMATE, "short", why="response_broken"),
    "silence in the middle of one": Ending("kept", ESTIMATE, "half", why="response_broken"),
    "a stream that ends": Ending("used", USED, stream=True),
    "a stream compressed with gzip or deflate": Ending("used", USED, "gzip", stream=True),
    "a stream without usage": Ending("used", USED, "bare", stream=True),
    "a stream that is cut at the cap": Ending(
        "used", PROMPT + 25, target=CUT, stream=True, tokens=1000
    ),
    "a stream that breaks off": Ending("used", USED, "reset", stream=True),
    "silence in the middle of a stream": Ending("used", USED, "stall", stream=True),
    "a stream compressed in another way": Ending(
        "kept", ESTIMATE, "br", stream=True, why="compressed"
    ),
    "the client leaves before its request is complete": Ending("", None, leaves=-1, status=0),
    "the client leaves in the middle of a long upload": Ending(
        "returned", 0, leaves=-1, status=0, big=True
    ),
    "the client leaves during a throttle's delay": Ending(
        "returned", 0, target=SLOW, leaves=0, status=0
    ),
    "the client leaves while it waits for a whole answer": Ending(
        "kept", ESTIMATE, "hang", leaves=0, status=0, why="client_gone"
    ),
    "the client leaves in the middle of one": Ending(
        "kept", ESTIMATE, "half", leaves=1, why="client_gone"
    ),
    "the client leaves before a stream begins": Ending(
        "used", PROMPT, "hang", stream=True, leaves=0, status=0
    ),
    "the client leaves in the middle of a stream": Ending(
        "used", USED, "stall", stream=True, leaves=1
    ),
}
ELSEWHERE = {
    "the shard does not answer": "asked again",
    "the shard was killed": "asked again until it is back: what was used. With"
    " `FAIRVISOR_DURABILITY=memory` unknown",
    "the front was killed": "stays charged",
}
"""Rows with a test of their own below, and how each begins its second column."""
SAYS = {"used": "what was used", "returned": "comes back", "kept": "the estimate", "": "nothing"}


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[Faulty]:
    with Faulty() as upstream:
        yield upstream


@pytest.fixture(name="stranger", scope="module")
def _stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    tls = secured(tmp_path_factory.mktemp("tls"), "127.0.0.1")
    with Faulty(tls=tls.server) as upstream:
        yield upstream


def bundle() -> dict[str, Any]:
    def policy(name: str, prefix: str, *more: dict[str, Any], **config: object) -> dict[str, Any]:
        rule = {
            "name": "tokens",
            "limit_keys": ["ip:address"],
            "algorithm": "token_bucket_llm",
            "algorithm_config": {
                "tokens_per_minute": 10**9, "default_max_completion": CAP, **config,
            },
        }  # fmt: skip
        spec = {"selector": {"pathPrefix": prefix}, "rules": [rule, *more]}
        return {"id": name, "spec": spec}

    delay = {
        "name": "delay",
        "limit_keys": ["ip:address"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 10**6,
            "period": "1mo",
            "staged_actions": [
                {"threshold_percent": 0, "action": "throttle", "delay_ms": 30_000},
                {"threshold_percent": 100, "action": "reject"},
            ],
        },
    }
    cut = {"max_completion_tokens": CAP // 5, "streaming": {"buffer_tokens": 5}}
    policies = [
        policy("plain", "/openai/"),
        policy("nobody", "/together/"),
        policy("stranger", "/cerebras/"),
        policy("cut", "/groq/", **cut),
        policy("slow", "/mistral/", delay),
    ]
    return {"bundle_version": 1, "policies": policies}


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Serve, upstream: Faulty, stranger: Faulty) -> Daemon:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    return serve_all(
        bundle(), mode="wrapper", wrapper_auth="passthrough", upstream_timeout=1.5,
        max_body_bytes=4000,
        provider_openai_url=upstream.url, provider_groq_url=upstream.url,
        provider_mistral_url=upstream.url, provider_cerebras_url=stranger.url,
        provider_together_url=f"http://127.0.0.1:{nobody}",
    )  # fmt: skip


def metrics(daemon: Daemon) -> dict[str, float]:
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("fairvisor_"): float(value) for name, value in pairs}


def charged(found: dict[str, float]) -> float:
    """Return all tokens that settlements have charged."""
    name = "tokens_consumed_total{"
    return sum(found[each] for each in found if each.startswith(name) and '"actual"' in each)


def request_of(ending: Ending) -> bytes:
    text = "word" * (2000 if ending.big else PROMPT)
    document = {"messages": [{"role": "user", "content": text}], "stream": ending.stream}
    body = json.dumps(document).encode()
    return (
        f"POST {ending.target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer key\r\n"
        f"X-Plan: {ending.plan}\r\nX-Completion: {ending.tokens}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def ask(daemon: Daemon, upstream: Faulty, ending: Ending) -> bytes:
    """Make the request and return what came of its answer."""
    request = request_of(ending)
    if ending.leaves == -1:
        request = request[:-100]
    with daemon.connect() as connection:
        connection.send(request)
        if ending.leaves is None:
            answer: bytes = connection.rest()
            return answer
        if ending.big or (ending.leaves == 0 and ending.target != SLOW):
            assert upstream.arrived.acquire(timeout=20)
        if ending.leaves > 0:
            first: bytes = connection.sock.recv(ending.leaves)
            assert first == b"H"
            if ending.stream:  # everything has been produced
                while first.count(WORD.encode()) < ending.tokens:
                    more = connection.sock.recv(65_536)
                    assert more
                    first += more
            return b"HTTP/1.1 200"
    return b""


@pytest.mark.parametrize("name", ENDINGS)
def test_what_is_charged(
    daemon: Daemon, upstream: Faulty, wait_until: Callable[..., None], name: str
) -> None:
    ending = ENDINGS[name]
    while upstream.arrived.acquire(blocking=False):
        pass
    before = metrics(daemon)
    answer = ask(daemon, upstream, ending)
    assert int(answer[9:12] or 0) == ending.status

    def settled() -> bool:
        after = metrics(daemon)
        label = f'settlements_total{{outcome="{ending.outcome}"}}'
        return after.get(label, 0) == before.get(label, 0) + 1

    if ending.charged is not None:
        wait_until(settled, 20.0, f"{name}: {ending.outcome}")
    after = metrics(daemon)
    assert charged(after) - charged(before) == (ending.charged or 0)
    kept = f'reservations_kept_total{{why="{ending.why}"}}'
    assert after.get(kept, 0) - before.get(kept, 0) == bool(ending.why)
    assert sum(v for k, v in after.items() if k.startswith("reservations{")) == 0


def test_the_document_has_these_rows_and_no_others() -> None:
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", TABLE, re.MULTILINE))
    assert rows.keys() == ENDINGS.keys() | ELSEWHERE.keys()
    for name, ending in ENDINGS.items():
        assert rows[name].startswith(SAYS[ending.outcome]), name
    for name, begins in ELSEWHERE.items():
        assert rows[name].startswith(begins), name


def test_settlements_are_recorded(
    daemon: Daemon, upstream: Faulty, wait_until: Callable[..., None]
) -> None:
    ask(daemon, upstream, ENDINGS["an answer without usage"])
    ask(daemon, upstream, ENDINGS["a stream that is cut at the cap"])

    def events(kind: str) -> list[dict[str, Any]]:
        lines = [line for line in daemon.said().splitlines() if f'"event":"{kind}"' in line]
        return [json.loads(line) for line in lines]

    def both() -> bool:
        return bool(events("settlement") and events("stream_truncated"))

    wait_until(both, 20.0, "both kinds of event")
    found = [each for each in events("settlement") if each["cost_source_fallback"]]
    assert {each["actual"] for each in found if each["why"] == "usage_not_found"} == {ESTIMATE}
    assert all(each["reserved"] == each["actual"] for each in found)
    assert events("stream_truncated")[-1]["policy_id"] == "cut"
    assert events("stream_truncated")[-1]["counted"] == 25


def test_a_certificate_that_is_not_trusted_is_named_in_the_log(
    daemon: Daemon, upstream: Faulty
) -> None:
    ask(daemon, upstream, ENDINGS["a certificate that is not trusted"])
    assert "its certificate is not accepted: " in daemon.said()
    assert "SSL_CERT_FILE" in daemon.said()


@pytest.fixture(name="alone")
def _alone(serve: Serve, upstream: Faulty) -> Daemon:
    upstream.gate.clear()
    while upstream.arrived.acquire(blocking=False):
        pass
    return serve(
        bundle(), mode="wrapper", wrapper_auth="passthrough", provider_openai_url=upstream.url,
        owner_timeout_ms=200, reservation_ttl=1,
    )  # fmt: skip


def test_the_shard_does_not_answer(
    alone: Daemon, upstream: Faulty, wait_until: Callable[..., None]
) -> None:
    shard = alone.pids()["shard 0"]
    with alone.connect() as connection:
        connection.send(request_of(Ending("used", USED, "gate")))
        assert upstream.arrived.acquire(timeout=20)
        os.kill(shard, signal.SIGSTOP)
        try:
            upstream.gate.set()
            assert connection.rest().startswith(b"HTTP/1.1 200")
        finally:
            os.kill(shard, signal.SIGCONT)
    wait_until(lambda: charged(metrics(alone)) == USED, 20.0, "settled at last")
    assert metrics(alone)['settlements_total{outcome="used"}'] == 1


@pytest.mark.parametrize(
    ("durability", "outcome", "units"), [("crash", "used", USED), ("memory", "unknown", 0)]
)
def test_the_shard_was_killed(  # noqa: PLR0913 - one case and its surroundings
    serve: Serve,
    upstream: Faulty,
    wait_until: Callable[..., None],
    durability: str,
    outcome: str,
    units: int,
) -> None:
    upstream.gate.clear()
    while upstream.arrived.acquire(blocking=False):
        pass
    daemon = serve(
        bundle(), mode="wrapper", wrapper_auth="passthrough", provider_openai_url=upstream.url,
        owner_timeout_ms=200, durability=durability,
    )  # fmt: skip
    with daemon.connect() as connection:
        connection.send(request_of(Ending("used", USED, "gate")))
        assert upstream.arrived.acquire(timeout=20)
        os.kill(daemon.pids()["shard 0"], signal.SIGKILL)
        upstream.gate.set()
        assert connection.rest().startswith(b"HTTP/1.1 200")
    label = f'settlements_total{{outcome="{outcome}"}}'
    wait_until(lambda: metrics(daemon).get(label) == 1, 60.0, f"the settlement is {outcome}")
    assert charged(metrics(daemon)) == units


def test_the_front_was_killed(
    alone: Daemon, upstream: Faulty, wait_until: Callable[..., None]
) -> None:
    front = alone.pids()["front 0"]
    with alone.connect() as connection:
        connection.send(request_of(Ending("used", USED, "gate")))
        assert upstream.arrived.acquire(timeout=20)
        os.kill(front, signal.SIGKILL)
        upstream.gate.set()

        def back() -> bool:
            try:
                found = metrics(alone)
            except (OSError, EOFError):
                return False
            return found.get('reservations_expired_total{shard="0"}') == 1

        wait_until(back, 30.0, "the reservation is counted when its time is over")
    assert charged(metrics(alone)) == 0
    assert metrics(alone)['reservations{shard="0"}'] == 0
