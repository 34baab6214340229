"""What is measured: a table of scenarios, each with its bundles and its requests.

Every limit on the loaded path is far above what a run can use up, so that all of the load is
allowed; that it is charged, and that the bundle can refuse, is checked around it (bench.probe).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.load import Requests

Json = dict[str, object]

PLENTY = 1_000_000_000
REFILL = 0.001
"""Tokens per second of a `PLENTY` bucket: slow, so that `remaining` counts the requests."""

SECRET = "a benchmark's secret is no secret"  # noqa: S105 - signs the load's tokens, nothing else
LOOP_THRESHOLD = 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that must be refused at the latest when it is sent for the `within`-th time."""

    headers: Mapping[str, str]
    within: int
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One bundle under one kind of load. `settings` are FAIRVISOR_* variables."""

    label: str
    bundle: Json
    requests: Requests
    refusals: tuple[Refusal, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Variants that are read together."""

    about: str
    variants: tuple[Variant, ...]
    connections: tuple[int, ...] = (1, 16, 64)
    side_by_side: bool = False
    """Whether the variants take turns with each other, and not only with nginx."""


def bundle(*policies: Json, **top: object) -> Json:
    """Return a bundle of `policies`, with further members `top`."""
    return {"bundle_version": 1, "policies": list(policies), **top}


def policy(name: str, selector: Json, rules: Iterable[Json], **spec: object) -> Json:
    """Return a policy, with further members `spec` of its spec."""
    return {"id": name, "spec": {"selector": selector, "rules": list(rules), **spec}}


def bucket(name: str, *limit_keys: str, rate: float = REFILL, burst: int = PLENTY) -> Json:
    """Return a token bucket rule."""
    return {
        "name": name,
        "limit_keys": list(limit_keys),
        "algorithm": "token_bucket",
        "algorithm_config": {"tokens_per_second": rate, "burst": burst},
    }


def original(uri: str, **headers: str) -> dict[str, str]:
    """Return what a gateway sends for a GET of `uri`; underscores in names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"X-Original-Method": "GET", "X-Original-URI": uri, **named}


def bearer(secret: str, claims: Json) -> str:
    """Return an `Authorization` value with an HS256 token (RFC 7515, §3.1)."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = f"{head}.{part(json.dumps(claims).encode())}"
    mark = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"Bearer {signed}.{part(mark)}"


GATE = policy("gate", {"pathExact": "/gate"}, [bucket("few", "ip:address", rate=0.01, burst=2)])
"""A policy beside the loaded path whose only use is to refuse when it is probed."""

GATE_REFUSES = Refusal(
    original("/gate", X_Forwarded_For="192.0.2.1"), 3, 429, "rate_limit_exceeded"
)
CLIENTS = policy("clients", {"pathPrefix": "/api/"}, [bucket("per-client", "ip:address")])
ONE_CLIENT = Requests(original("/api/items", X_Forwarded_For="198.51.100.7"))


def one_rule(label: str, **settings: str) -> Variant:
    """Return the plainest bundle that decides: one token bucket per client address."""
    return Variant(label, bundle(CLIENTS, GATE), ONE_CLIENT, (GATE_REFUSES,), settings)


CLIENT = "198.51.100.7"


def full_policy(rules: Iterable[Json]) -> Json:
    """Return `rules` behind loop detection and a circuit breaker, on /api/."""
    return policy(
        "guarded",
        {"pathPrefix": "/api/"},
        rules,
        loop_detection={
            "enabled": True,
            "window_seconds": 2,
            "threshold_identical_requests": LOOP_THRESHOLD,
            "action": "reject",
        },
        circuit_breaker={"enabled": True, "spend_rate_threshold_per_minute": PLENTY},
    )


def everything(label: str, rules: Iterable[Json], **settings: str) -> Variant:
    """Return `rules` with a verified token, loop detection and a circuit breaker.

    Of three shards the three identities (org-1, user-3, CLIENT) own one each.
    """
    token = bearer(SECRET, {"sub": "user-3", "org_id": "org-1", "exp": 4102444800})
    forged = bearer(SECRET[::-1], {"sub": "user-1", "org_id": "org-1"})
    same = original("/api/items", Authorization=token, X_Forwarded_For=CLIENT)
    unsigned = original("/api/items", Authorization=forged, X_Forwarded_For=CLIENT)
    uri = "/api/items?serial={serial}"
    return Variant(
        label,
        bundle(
            full_policy(rules),
            jwt={"keys": [{"id": "k1", "algorithm": "HS256", "secret": SECRET}], "required": True},
        ),
        Requests(original(uri, Authorization=token, X_Forwarded_For=CLIENT)),
        (
            Refusal(same, LOOP_THRESHOLD, 429, "loop_detected"),
            Refusal(unsigned, 1, 401, "invalid_token"),
        ),
        settings,
    )


def one_identity() -> Variant:
    """Return five rules on one identity: one shard, one frame."""
    window: Json = {
        "name": "per-minute",
        "limit_keys": ["jwt:org_id"],
        "algorithm": "sliding_window",
        "algorithm_config": {"limit": PLENTY, "window_seconds": 60},
    }
    budget: Json = {
        "name": "per-month",
        "limit_keys": ["jwt:org_id"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": PLENTY,
            "period": "1mo",
            "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
        },
    }
    buckets = [bucket(name, "jwt:org_id") for name in ("first", "second", "third")]
    return everything("5 rules, JWT, loop, breaker", [*buckets, window, budget])


def three_identities(shards: int) -> Variant:
    """Return three rules on three identities, which meet in one shard or lie on several."""
    rules = [
        bucket("per-org", "jwt:org_id"),
        bucket("per-user", "jwt:sub"),
        bucket("per-client", "ip:address"),
    ]
    label = f"3 rules on 3 identities, JWT, loop, breaker, {shards} shard(s)"
    return everything(label, rules, FAIRVISOR_SHARDS=str(shards))


def many_keys(count: int) -> Variant:
    """Return one rule whose load is spread over `count` keys."""
    rules = [bucket("per-key", "header:x-api-key")]
    return Variant(
        f"{count:,} keys",
        bundle(policy("keys", {"pathPrefix": "/api/"}, rules), GATE),
        Requests(original("/api/items", X_Api_Key="key-{key}"), keys=count),
        (GATE_REFUSES,),
        {"FAIRVISOR_SHARED_DICT_SIZE": "2048m"},
    )


def many_policies(count: int) -> Variant:
    """Return one rule beside `count` policies that do not match.

    Half of them differ in their path, half in their host on the loaded path, as tenants do.
    """
    others = []
    for n in range(count):
        selector: Json = {"pathPrefix": f"/other-{n}/"}
        if n % 2:
            selector = {"pathPrefix": "/api/", "hosts": [f"tenant-{n}.example.com"]}
        others.append(policy(f"other-{n}", selector, [bucket("per-client", "ip:address")]))
    return Variant(
        f"{count:,} other policies",
        bundle(CLIENTS, GATE, *others),
        Requests({**ONE_CLIENT.headers, "X-Original-Host": "www.example.com"}),
        (GATE_REFUSES,),
    )


DURABILITIES = ("memory", "crash", "power")


def durable(keys: int, durability: str) -> Variant:
    """Return one stored rule whose load is spread over `keys` keys."""
    rules = [bucket("per-key", "header:x-api-key")]
    return Variant(
        f"{durability}, {keys:,} keys",
        bundle(policy("keys", {"pathPrefix": "/api/"}, rules), GATE),
        Requests(original("/api/items", X_Api_Key="key-{key}"), keys=keys),
        (GATE_REFUSES,),
        {"FAIRVISOR_STATE_DIR": "{folder}/state", "FAIRVISOR_DURABILITY": durability},
    )


SCENARIOS = {
    "decisions": Scenario("one token bucket, counters in memory", (one_rule("1 bucket"),)),
    "complex": Scenario(
        "everything a policy can check without a body",
        (one_identity(), three_identities(1), three_identities(3)),
    ),
    "keys": Scenario(
        "cost by number of keys",
        tuple(many_keys(count) for count in (10, 1_000, 100_000, 1_000_000)),
        (64,),
    ),
    "durability": Scenario(
        "what it costs that counters outlive their process, or a power cut",
        tuple(durable(keys, each) for keys in (1, 100_000) for each in DURABILITIES),
        (16, 64),
        side_by_side=True,
    ),
    "policies": Scenario(
        "cost by number of policies that do not match",
        tuple(many_policies(count) for count in (1, 10, 100, 1_000)),
        (64,),
    ),
}
