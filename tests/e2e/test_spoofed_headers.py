"""Which edge headers count: by who sends them, how they are spelled, how often, in which order.

What counted is read from a debug session: the policies that matched, the descriptors, the refusal.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.upstreams.llm import Upstream

Daemon = Any
Serve = Callable[..., Daemon]
SECRET = "debug-secret"  # noqa: S105 - a test's
PEER = "127.0.0.1"
Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Edge:
    """An edge header, two values for it, and what each makes of a request."""

    name: str
    values: tuple[str, str]
    effects: tuple[Mapping[str, str], Mapping[str, str]]


def _descriptor(name: str, key: str, *values: str) -> Edge:
    one, two = ({key: value} for value in values)
    return Edge(name, (values[0], values[1]), (one, two))


def _policy(name: str, first: str, second: str) -> Edge:
    """Return a header that makes another policy match, by either of two values."""
    return Edge(name, (first, second), ({"policies": f"{name.lower()}-1"},
                                        {"policies": f"{name.lower()}-2"}))  # fmt: skip


EDGES = (
    _descriptor("X-Forwarded-For", "ip:address", "203.0.113.1", "203.0.113.2"),
    _descriptor("X-Country-Code", "ip:country", "DE", "FR"),
    _descriptor("X-ASN", "ip:asn", "64500", "64501"),
    _descriptor("X-ASN-Type", "ip:type", "isp", "hosting"),
    _descriptor("X-Tor-Exit", "ip:tor", "true", "false"),
    _descriptor("X-Forwarded-User", "header:x-forwarded-user", "root", "admin"),
    _descriptor("X-Original-Tenant", "header:x-original-tenant", "a", "b"),
    _policy("X-Original-URI", "/uri/1", "/uri/2"),
    _policy("X-Forwarded-Uri", "/uri/1", "/uri/2"),
    _policy("X-Original-Method", "PUT", "PATCH"),
    _policy("X-Forwarded-Method", "PUT", "PATCH"),
    _policy("X-Original-Host", "one.test", "two.test"),
    _policy("X-Forwarded-Host", "one.test", "two.test"),
    Edge(
        "X-Token-Estimate",
        ("1000", "2000"),
        ({"refused": "prompt_tokens_exceeded"}, {"refused": "prompt_tokens_exceeded"}),
    ),
)
IN_A_PROXY = {"X-Forwarded-For", "X-Country-Code", "X-ASN", "X-ASN-Type", "X-Tor-Exit",
              "X-Forwarded-User", "X-Original-Tenant", "X-Token-Estimate"}  # fmt: skip
"""What counts where the request itself is the original one."""


def spellings(name: str) -> dict[str, str]:
    return {
        "as-written": name,
        "lower": name.lower(),
        "upper": name.upper(),
        "underscored": name.replace("-", "_"),
        "half": name.replace("-", "_", 1) if name.count("-") > 1 else name.replace("-", "_"),
    }


def arrangements(edge: Edge) -> Iterator[tuple[str, Fields, int]]:
    """Yield what is sent and which value counts from a trusted peer (from any, if it is -1)."""
    one, two = edge.values
    for how, name in spellings(edge.name).items():
        yield how, [(name, one)], 0
        if edge.name != "X-Forwarded-For":
            yield f"{how}-twice", [(name, one), (name, two)], 0
    low = edge.name.replace("-", "_")
    yield "underscored-first", [(low, two), (edge.name, one)], 0
    yield "underscored-last", [(edge.name, one), (low, two)], 0
    if edge.name == "X-Forwarded-For":
        # Lines are joined, and the hop that is furthest right and not trusted is the client.
        yield "two-lines", [(edge.name, two), (edge.name, one)], 0
        yield "list", [(edge.name, f"{two}, {one}")], 0
        yield "list-of-us", [(edge.name, f"{two}, {one}, 127.0.0.1")], 0
        yield "nonsense-left", [(edge.name, f"nonsense, {one}")], 0


RULE = {"algorithm": "token_bucket",
        "algorithm_config": {"tokens_per_second": 1000, "burst": 100000}}  # fmt: skip


def bundle() -> dict[str, Any]:
    keys = [key for edge in EDGES for key in edge.effects[0] if ":" in key]
    rules = [{"name": key, "limit_keys": [key], **RULE} for key in keys]
    rules.append(
        {
            "name": "estimate",
            "limit_keys": ["header:x-llm"],
            "algorithm": "token_bucket_llm",
            "algorithm_config": {"tokens_per_minute": 10**9, "max_prompt_tokens": 500},
        }
    )
    policies = [{"id": "keys", "spec": {"selector": {"pathPrefix": "/"}, "rules": rules}}]
    for kind, first, second in (
        ("uri", {"pathExact": "/uri/1"}, {"pathExact": "/uri/2"}),
        ("method", {"methods": ["PUT"]}, {"methods": ["PATCH"]}),
        ("host", {"hosts": ["one.test"]}, {"hosts": ["two.test"]}),
    ):
        for number, selector in enumerate((first, second), start=1):
            everywhere = {} if "pathExact" in selector else {"pathPrefix": "/"}
            spec = {"selector": selector | everywhere, "rules": []}
            policies.append({"id": f"{kind}-{number}", "spec": spec})
    return {"bundle_version": 1, "policies": policies}


class Asker:
    """Asks over one connection, in a debug session."""

    def __init__(self, connection: Any, target: str) -> None:  # noqa: ANN401 - the fixture's
        self._connection = connection
        self._target = target
        secret = {"X-Fairvisor-Debug-Secret": SECRET}
        answer = connection.request("/v1/debug/session", secret, method="POST")
        self._cookie = answer.headers["set-cookie"].partition(";")[0]

    def ask(self, fields: Fields) -> dict[str, str]:
        """Return what counted."""
        lines = [f"GET {self._target} HTTP/1.1", "Host: edge.test", f"Cookie: {self._cookie}"]
        lines += ["X-LLM: yes", *(f"{name}: {value}" for name, value in fields), "", ""]
        self._connection.send("\r\n".join(lines).encode())
        headers = self._connection.answer().headers
        prefix = "x-fairvisor-debug-descriptor-"
        seen = {
            headers[name]: headers[name.replace("-key", "-value")]
            for name in headers
            if name.startswith(prefix) and name.endswith("-key")
        }
        matched = headers.get("x-fairvisor-debug-matched-policies", "").split(",")
        seen["policies"] = ",".join(each for each in matched if each != "keys")
        seen["refused"] = headers.get("x-fairvisor-reason", "")
        seen.pop("header:x-llm", None)
        return seen


@contextmanager
def asking(daemon: Daemon, way: str, target: str) -> Iterator[Asker]:
    with daemon.connect(way) as connection:
        yield Asker(connection, target)


def expected(plain: Mapping[str, str], effect: Mapping[str, str]) -> dict[str, str]:
    known = {key: value.rpartition("-")[2] for key, value in effect.items() if key == "policies"}
    if not known:
        return {**plain, **effect}
    kind = effect["policies"].split("-")[2]  # x-original-uri-1
    return {**plain, "policies": f"{kind}-{known['policies']}"}


@pytest.fixture(name="daemons", scope="module")
def _daemons(serve_all: Serve) -> Iterator[dict[str, Daemon]]:
    with Upstream() as upstream:
        yield _started(serve_all, upstream.url)


def _started(serve_all: Serve, url: str) -> dict[str, Daemon]:
    about = {"debug_session_secret": SECRET, "unix": True}
    return {
        "trusting": serve_all(bundle(), **about),
        "wary": serve_all(bundle(), trusted_proxies="10.0.0.0/8", **about),
        "proxy": serve_all(bundle(), mode="reverse_proxy", backend_url=url, **about),
        "wary-proxy": serve_all(
            bundle(),
            mode="reverse_proxy",
            backend_url=url,
            trusted_proxies="10.0.0.0/8",
            **about,
        ),
    }


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
@pytest.mark.parametrize("way", ["tcp", "unix"])
@pytest.mark.parametrize("kind", ["trusting", "wary"])
def test_only_a_trusted_peer_speaks_for_others(
    daemons: dict[str, Daemon], kind: str, way: str, edge: Edge
) -> None:
    with asking(daemons[kind], way, "/v1/decision/x") as asker:
        plain = asker.ask([])
        assert plain.get("ip:address") == (None if way == "unix" else PEER)
        for how, fields, counts in arrangements(edge):
            believed = kind == "trusting" or way == "unix"
            wanted = expected(plain, edge.effects[counts]) if believed else plain
            if way == "unix" and kind == "wary" and how == "list-of-us":
                wanted = expected(plain, {"ip:address": PEER})  # it is not one of us here
            assert asker.ask(fields) == wanted, how


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
@pytest.mark.parametrize("kind", ["proxy", "wary-proxy"])
def test_in_a_proxy_nobody_says_what_was_asked(
    daemons: dict[str, Daemon], kind: str, edge: Edge
) -> None:
    with asking(daemons[kind], "tcp", "/x") as asker:
        plain = asker.ask([])
        assert plain["ip:address"] == PEER
        for how, fields, counts in arrangements(edge):
            believed = kind == "proxy" and edge.name in IN_A_PROXY
            wanted = expected(plain, edge.effects[counts]) if believed else plain
            assert asker.ask(fields) == wanted, how


def test_a_wary_daemon_says_whom_it_did_not_believe(daemons: dict[str, Daemon]) -> None:
    for kind in ("wary", "trusting"):
        with asking(daemons[kind], "tcp", "/v1/decision/x") as asker:
            asker.ask([("X-Forwarded-For", "203.0.113.1")])
    assert "from 127.0.0.1, which is not a trusted proxy" in daemons["wary"].said()
    assert "FAIRVISOR_TRUSTED_PROXIES" in daemons["wary"].said()
    assert "not a trusted proxy" not in daemons["trusting"].said()
