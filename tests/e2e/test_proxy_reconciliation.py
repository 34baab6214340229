"""Our counters against the provider's own ledger after any mix of calls and faults (§11.2).

A thousand calls at once, of every format, plain and streamed; some clients leave at a random byte,
some answers break. Clients fall into groups with counters of their own, by what must hold for them:

    whole    the answer arrived: counters and ledger agree to the token and the micro-dollar
    nothing  nothing was produced and the upstream said so: all came back
    upload   left before the request was complete: nothing was ever charged, or all came back
    stalled  left in the middle of a stream: exactly what was produced until then
    stopped  the stream broke off under the upstream: never less than was produced
    left     left at any byte of the answer, or before it: never less than was produced

The exact counters are read from decision records (`remaining` is exact there), by decisions that
carry the key of one counter only.
"""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

import pytest

from tests.upstreams.faulty import PROMPT, Entry, Faulty

CALLS = 1_000
SEED = 20_260_203
MICRO = 10**6
INPUT, OUTPUT = "2.37", "11.09"
"""Dollars per million tokens: no call costs a whole number of micro-dollars."""
MOST = 40
MAX_BODY = 8_000
GROUPS = ("whole", "nothing", "upload", "stalled", "stopped", "left")
Serve = Callable[..., Any]

FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("/openai/v1/chat/completions", {}),
    ("/openai/v1/chat/completions", {"stream": True}),
    ("/openai/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}),
    ("/openai/v1/responses", {}),
    ("/openai/v1/responses", {"stream": True}),
    ("/anthropic/v1/messages", {}),
    ("/anthropic/v1/messages", {"stream": True}),
    ("/gemini/v1beta/models/m:generateContent", {}),
    ("/gemini/v1beta/models/m:streamGenerateContent?alt=sse", {}),
    ("/gemini/v1beta/models/m:streamGenerateContent", {}),
    ("/ollama/v1/chat/completions", {"stream": True}),
]
COUNTED = [FORMATS[1], FORMATS[2], FORMATS[6], FORMATS[10]]
"""Streams whose prompt is estimated as the provider counts it."""
PLANS = {
    "whole": ["", "", "", "drip", "early", "old", "gzip"],
    "nothing": ["error", "refuse", "garbage", "heads", "hang"],
    "upload": [""],
    "stalled": ["stall"],
    "stopped": ["reset", "short", "stall"],
    "left": ["", "drip", "stall", "half", "hang"],
}


@pytest.fixture(name="upstream")
def _upstream() -> Iterator[Faulty]:
    with Faulty() as upstream:
        yield upstream


def bundle() -> dict[str, Any]:
    def budget(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "limit_keys": [f"header:x-{name}"],
            "algorithm": "cost_based",
            "algorithm_config": {
                "budget": 10**9,
                "period": "1mo",
                "cost_key": f"llm:{name}",
                "default_max_completion": MOST,
                "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
            },
        }

    llm = {
        "name": "bucket",
        "limit_keys": ["header:x-bucket"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 10**9, "default_max_completion": MOST},
    }
    rules = [budget("tokens"), budget("usd"), llm]
    spec = {"selector": {"pathPrefix": "/"}, "rules": rules}
    prices = {"m": {"input_per_million": INPUT, "output_per_million": OUTPUT}}
    policy = {"id": "ledger", "spec": spec}
    return {"bundle_version": 1, "model_prices": prices, "policies": [policy]}


def price(entry: Entry) -> int:
    """Return what the provider bills for a call, in micro-dollars."""
    return ceil(entry.prompt * Fraction(INPUT) + entry.completion * Fraction(OUTPUT))


@dataclass
class Call:
    """One client's plan and what became of it."""

    id: str
    group: str
    plan: str
    target: str
    body: bytes
    tokens: int
    slices: list[int]
    leaves_after: int | None = None
    status: int = 0
    answer: bytes = b""

    @property
    def request(self) -> bytes:
        """Head and body as bytes."""
        # The model of a body that is too long to be read is not known: a price for it is charged
        # once and for all (§5.5.3).
        units = ("Tokens", "Bucket") if len(self.body) > MAX_BODY else ("Tokens", "Usd", "Bucket")
        names = "".join(f"X-{name}: {self.group}\r\n" for name in units)
        return (
            f"POST {self.target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer key\r\n"
            f"x-api-key: key\r\nx-goog-api-key: key\r\nConnection: close\r\n"
            f"X-Plan: {self.plan}\r\nX-Completion: {self.tokens}\r\nX-Id: {self.id}\r\n{names}"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        ).encode() + self.body

    async def run(self, port: int) -> None:
        """Send in slices, read, and leave when the plan says so."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            request = self.request
            if self.group == "upload":
                request = request[: self.leaves_after]
            start = 0
            for end in [*(cut for cut in self.slices if cut < len(request)), len(request)]:
                writer.write(request[start:end])
                await writer.drain()
                await asyncio.sleep(0)
                start = end
            if self.group == "upload":
                return
            limit = 1 << 30 if self.leaves_after is None else self.leaves_after
            while len(self.answer) < limit and (
                data := await asyncio.wait_for(reader.read(limit - len(self.answer)), 60)
            ):
                self.answer += data
            self.status = int(self.answer[9:12] or 0)
        except ConnectionError:
            assert self.group != "whole"
        finally:
            writer.transport.abort()


@dataclass
class Mix:
    """All calls of one run."""

    seed: int
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        for number in range(CALLS):
            group = draw.choices(GROUPS, (8, 2, 1, 3, 2, 4))[0]
            target, extra = draw.choice(COUNTED if group == "stalled" else FORMATS)
            plan = draw.choice(PLANS[group])
            streams = "stream" in extra or ":stream" in target
            if not streams and plan in {"stall", "reset"}:
                target, extra, streams = *FORMATS[1], True
            if streams and plan == "half":
                plan = "stall"
            if group == "stopped" and not streams:
                target, extra = FORMATS[4]
            call = Call(
                f"{self.seed}-{number}", group, plan, target,
                self._body(target, extra, big=group == "upload" and draw.random() < 0.5),
                draw.randint(1, MOST), [],
            )  # fmt: skip
            size = len(call.request)
            call.slices = sorted(draw.sample(range(1, min(size, 4000)), draw.randint(0, 4)))
            if group == "upload":
                call.leaves_after = draw.randrange(size)
            elif group == "left":
                call.leaves_after = draw.choice((0, 1, draw.randrange(400), draw.randrange(4000)))
            elif group == "stalled":
                call.leaves_after = draw.randint(1, 50 * call.tokens)
            self.calls.append(call)

    def _body(self, target: str, extra: dict[str, Any], *, big: bool) -> bytes:
        text = "word" * (5000 if big else PROMPT)  # the estimate is the provider's count
        document: dict[str, Any] = {"model": "m", **extra}
        if target.startswith("/gemini"):
            document["contents"] = [{"parts": [{"text": text}]}]
            document["generationConfig"] = {"maxOutputTokens": MOST}
        elif target.endswith("/responses"):
            document |= {"input": text, "max_output_tokens": MOST}
        else:
            document |= {"messages": [{"role": "user", "content": text}], "max_tokens": MOST}
        return json.dumps(document).encode()

    async def run(self, port: int) -> None:
        """Make all calls at once."""
        await asyncio.gather(*(call.run(port) for call in self.calls))


class Counters:
    """Reads counters exactly, through decisions that touch one of them each."""

    def __init__(self, daemon: Any, wait_until: Callable[..., None]) -> None:  # noqa: ANN401
        self._daemon = daemon
        self._wait = wait_until
        self._asked = 0
        self._cost: dict[str, int] = {}
        self._first: dict[tuple[str, str], int] = {}
        for unit in ("tokens", "usd"):
            first, second = self._left(unit, "probe"), self._left(unit, "probe")
            self._cost[unit] = first - second
        for group in GROUPS:
            for unit in self._cost:
                self._first[unit, group] = self._left(unit, group)

    def charged(self, unit: str, group: str) -> int:
        """Return what a group's counter has been charged since the start, in micro-units."""
        return self._first[unit, group] - self._left(unit, group) - self._cost[unit]

    def _left(self, unit: str, group: str) -> int:
        self._asked += 1
        path = f"/probe/{self._asked}"
        headers = {f"X-{unit}": group, "X-Original-URI": path}
        with self._daemon.connect() as connection:
            body = b'{"model": "m", "messages": []}'
            assert connection.request("/v1/decision", headers, "POST", body).status == 200

        def record() -> list[dict[str, Any]]:
            lines = self._daemon.said().splitlines()
            found = [json.loads(line) for line in lines if f'"path":"{path}"' in line]
            return [each for each in found if each["event"] == "decision"]

        self._wait(record, 20.0, f"the record of {path}")
        [decision] = record()
        remaining: float = decision["remaining"]
        return round(remaining * MICRO)

    @property
    def probes(self) -> int:
        """Reservations that the reading itself has left open."""
        return self._asked


def reservations(daemon: Any) -> int:  # noqa: ANN401
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("fairvisor_reservations{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


def test_counters_and_ledger_agree_after_any_mix(
    serve: Serve, upstream: Faulty, wait_until: Callable[..., None]
) -> None:
    names = ("openai", "anthropic", "gemini", "ollama")
    urls = {f"provider_{name}_url": upstream.url for name in names}
    daemon = serve(
        bundle(), mode="hybrid", wrapper_auth="passthrough", worker_processes=2, shards=2,
        upstream_timeout=8, log_level="debug", max_body_bytes=MAX_BODY, **urls,
    )  # fmt: skip
    counters = Counters(daemon, wait_until)
    mix = Mix(SEED)
    asyncio.run(asyncio.wait_for(mix.run(daemon.port), 120))
    wait_until(lambda: reservations(daemon) == counters.probes, 30.0, "everything settled")

    ledger = upstream.entries()
    groups = {group: [call for call in mix.calls if call.group == group] for group in GROUPS}
    billed = {
        group: [ledger[call.id] for call in calls if call.id in ledger]
        for group, calls in groups.items()
    }
    for call in groups["whole"]:
        assert call.status == 200
        assert call.plan == "gzip" or call.answer.count(b"tok ") == call.tokens, call.id
    assert len(billed["whole"]) == len(groups["whole"])
    assert all(entry.complete for entry in billed["whole"])
    for group in ("nothing", "upload"):
        assert sum(entry.total for entry in billed[group]) == 0
    assert min(len(calls) for calls in groups.values()) > 20
    assert sum(entry.total > 0 for entry in billed["left"]) > 50

    charged = {
        (unit, group): counters.charged(unit, group)
        for group in GROUPS
        for unit in ("tokens", "usd")
    }
    tokens = {group: sum(entry.total for entry in billed[group]) for group in GROUPS}
    dollars = {group: sum(price(entry) for entry in billed[group]) for group in GROUPS}
    assert charged["tokens", "whole"] == tokens["whole"] * MICRO
    assert charged["usd", "whole"] == dollars["whole"]
    for group in ("nothing", "upload"):
        assert (charged["tokens", group], charged["usd", group]) == (0, 0)
    assert charged["tokens", "stalled"] == tokens["stalled"] * MICRO
    assert charged["usd", "stalled"] == dollars["stalled"]
    for group in ("stopped", "left"):
        assert charged["tokens", group] >= tokens[group] * MICRO > 0
        assert charged["usd", group] >= dollars[group] > 0

    settled = [json.loads(line) for line in daemon.said().splitlines() if '"settlement"' in line]
    by_tokens = sum(
        rule["actual"]
        for record in settled
        for rule in record["rules"]
        if rule["rule_name"] == "tokens"
    )
    assert by_tokens * MICRO == sum(charged["tokens", group] for group in GROUPS)
    assert daemon.said().count("Traceback") == 0
