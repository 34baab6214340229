"""Five rules over three identities on three shards, over the wire (behaviour §5.2)."""

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import pytest

Daemon = Any
"""The `Daemon` of conftest.py."""

SHARDS = 3
SLOW = 0.0001


def names(prefix: str) -> list[str]:
    """Return one value per shard, told by the placement that docs/architecture.md describes."""
    found: dict[int, str] = {}
    for number in range(100):
        name = f"{prefix}{number}"
        found.setdefault(crc32(name.encode()) % SHARDS, name)
    return [found[shard] for shard in range(SHARDS)]


ORG, USER, CLIENT = names("id-")


def bucket(name: str, key: str, burst: int) -> dict[str, object]:
    config = {"tokens_per_second": SLOW, "burst": burst}
    rule = {"name": name, "limit_keys": [key], "algorithm": "token_bucket"}
    return {**rule, "algorithm_config": config}


RULES = [
    bucket("org-burst", "header:x-org", 50),
    {
        "name": "org-hour",
        "limit_keys": ["header:x-org"],
        "algorithm": "sliding_window",
        "algorithm_config": {"limit": 60, "window_seconds": 86400},
    },
    bucket("user-burst", "header:x-user", 40),
    {
        "name": "user-money",
        "limit_keys": ["header:x-user"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 30,
            "period": "1mo",
            "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
        },
    },
    bucket("client-few", "header:x-client", 4),
]


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Callable[..., Daemon]) -> Daemon:
    together = {"id": "five", "spec": {"selector": {"pathPrefix": "/all/"}, "rules": RULES}}
    bundle = {"bundle_version": 1, "policies": [together]}
    return serve_all(bundle, worker_processes=2, shards=SHARDS)


def headers(org: str = ORG, user: str = USER, client: str = CLIENT) -> Mapping[str, str]:
    return {"X-Org": org, "X-User": user, "X-Client": client}


def test_a_refusal_by_the_last_rule_leaves_all_five_counters_as_before(daemon: Daemon) -> None:
    with daemon.connect() as connection:

        def ask(**identities: str) -> Any:  # noqa: ANN401 - an Answer of conftest.py
            uri = {"X-Original-URI": "/all/x"}
            return connection.request(headers={**uri, **headers(**identities)})

        for _ in range(4):
            assert ask().status == 200
        refused = [ask() for _ in range(25)]
        assert {answer.status for answer in refused} == {429}
        assert {answer.headers["ratelimit-policy"] for answer in refused} == {'"five";q=4;w=40000'}
        # Other clients of the same user and organisation: exactly the four charges are missing from
        # the user's 30 dollars, which is the first limit to run out.
        others = [f"other-{number}" for number in range(40)]
        answers = [ask(client=other) for other in others]
        assert [answer.status for answer in answers] == [200] * 26 + [429] * 14
        assert answers[25].headers["ratelimit-remaining"] == "0"
        assert answers[26].headers["x-fairvisor-reason"] == "budget_exhausted"
        # Other users of the organisation: 30 charges are missing from its burst of 50.
        users = [f"user-{number}" for number in range(25)]
        answers = [ask(user=user, client=f"its-{user}") for user in users]
        assert [answer.status for answer in answers] == [200] * 20 + [429] * 5
        assert answers[20].headers["ratelimit-limit"] == "50"


def test_the_identities_lie_on_three_shards(daemon: Daemon) -> None:
    assert daemon.decide("/all/x", headers(ORG, USER, "another")).status in {200, 429}
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    held = [line for line in text.splitlines() if line.startswith("fairvisor_counters{")]
    assert len(held) == SHARDS
    assert all(float(line.split()[-1]) > 0 for line in held), held
