"""Reservations and `POST /v1/settle` over the daemon's sockets (behaviour §7.4, §7.5, §11.2)."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

Daemon = Any
"""The `Daemon` of conftest.py."""


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Callable[..., Daemon]) -> Daemon:
    def llm(name: str, key: str, per_day: int) -> dict[str, object]:
        config = {"tokens_per_minute": 1_000_000, "tokens_per_day": per_day}
        rule = {"name": name, "limit_keys": [key], "algorithm": "token_bucket_llm"}
        return {**rule, "algorithm_config": config}

    money = {
        "name": "money",
        "limit_keys": ["header:x-org"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 10,
            "period": "1mo",
            "cost_key": "llm:usd",
            "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
        },
    }
    tokens = [llm("org", "header:x-org", 1000), llm("user", "header:x-user", 5000)]
    bundle = {
        "bundle_version": 1,
        "model_prices": {"m": {"input_per_million": 1, "output_per_million": "1000000"}},
        "policies": [
            {"id": "tokens", "spec": {"selector": {"pathPrefix": "/v1/chat/"}, "rules": tokens}},
            {"id": "money", "spec": {"selector": {"pathPrefix": "/paid/"}, "rules": [money]}},
        ],
    }
    return serve_all(bundle, worker_processes=2, shards=3)


def ask(daemon: Daemon, org: str, tokens: int, path: str = "/v1/chat/completions") -> Any:  # noqa: ANN401
    body = json.dumps({"model": "m", "messages": [], "max_tokens": tokens}).encode()
    identity = {"X-Org": org, "X-User": f"user-of-{org}"}
    with daemon.connect() as connection:
        return connection.request(f"/v1/decision{path}", identity, method="POST", body=body)


def settle(daemon: Daemon, **document: object) -> Any:  # noqa: ANN401 - an Answer of conftest.py
    with daemon.connect() as connection:
        return connection.request("/v1/settle", method="POST", body=json.dumps(document).encode())


def test_the_difference_comes_back_once(daemon: Daemon) -> None:
    allowed = ask(daemon, "a", 900)
    assert (allowed.status, allowed.headers["ratelimit-remaining"]) == (200, "100")
    assert ask(daemon, "a", 200).headers["x-fairvisor-reason"] == "tpd_exceeded"
    reservation = allowed.headers["x-fairvisor-reservation"]
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    assert settle(daemon, reservation=reservation, usage=usage).status == 204
    assert settle(daemon, reservation=reservation, usage=usage).status == 409
    assert ask(daemon, "a", 50).headers["ratelimit-remaining"] == "800"


def test_an_overrun_is_charged(daemon: Daemon) -> None:
    allowed = ask(daemon, "b", 100)
    reservation = allowed.headers["x-fairvisor-reservation"]
    assert settle(daemon, reservation=reservation, total_tokens=990).status == 204
    assert ask(daemon, "b", 11).headers["x-fairvisor-reason"] == "tpd_exceeded"
    assert ask(daemon, "b", 10).status == 200


def test_a_response_body_is_read_for_its_usage(daemon: Daemon) -> None:
    reservation = ask(daemon, "c", 500).headers["x-fairvisor-reservation"]
    response = {"usage": {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10}}
    assert settle(daemon, reservation=reservation, response_body=response).status == 204
    assert ask(daemon, "c", 90).headers["ratelimit-remaining"] == "900"


def test_dollars_are_reconciled_to_the_real_price(daemon: Daemon) -> None:
    allowed = ask(daemon, "d", 8, "/paid/chat/completions")
    assert allowed.headers["ratelimit-remaining"] == "2"
    assert ask(daemon, "d", 3, "/paid/chat/completions").status == 429
    reservation = allowed.headers["x-fairvisor-reservation"]
    usage = {"prompt_tokens": 0, "completion_tokens": 1}
    assert settle(daemon, reservation=reservation, usage=usage).status == 204
    assert ask(daemon, "d", 3, "/paid/chat/completions").headers["ratelimit-remaining"] == "6"


def test_a_refused_request_reserves_nothing(daemon: Daemon) -> None:
    assert "x-fairvisor-reservation" not in ask(daemon, "e", 1001).headers
    assert ask(daemon, "e", 1000).status == 200


def test_one_of_many_settlements_at_once_counts(daemon: Daemon) -> None:
    reservation = ask(daemon, "f", 1000).headers["x-fairvisor-reservation"]
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(
            lambda _: settle(daemon, reservation=reservation, total_tokens=0).status, range(32)
        )
    assert sorted(answers) == [204] + [409] * 31
    assert ask(daemon, "f", 1000).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"reservation":"x"}', 400),
        (b'{"reservation":"x","usage":{"total_tokens":-1}}', 400),
        (b'{"reservation":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","total_tokens":1}', 409),
    ],
)
def test_what_is_no_settlement_is_told_so_in_json(daemon: Daemon, body: bytes, status: int) -> None:
    with daemon.connect() as connection:
        answer = connection.request("/v1/settle", method="POST", body=body)
    assert answer.status == status
    assert json.loads(answer.body)["error"]


def test_only_post_settles(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        assert connection.request("/v1/settle").status == 405
