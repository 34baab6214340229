"""Forged tokens against the running daemon, and what a reload of the keys makes of good ones."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.daemon.engine.forgery import KEYS, SECRET, plain
from tests.daemon.engine.test_token_attacks import ACCEPTED, REFUSED

Serve = Callable[..., Any]
SENDABLE = {
    name: text
    for name, text in REFUSED.items()
    if name != "nbf-later"  # by this clock it has begun
    and text.isascii()
    and text.decode().isprintable()
    and text == text.rstrip()
}


@pytest.fixture(name="bundle")
def _bundle(bucket_policy: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    policies = [bucket_policy("p", "/", "jwt:sub", 1, 1000)]
    return {"bundle_version": 1, "policies": policies, "jwt": {"keys": KEYS, "required": True}}


def ask(connection: Any, token: bytes) -> tuple[int, str]:  # noqa: ANN401 - the fixture's
    headers = {"X-Original-URI": "/", "Authorization": f"Bearer {token.decode()}"}
    answer = connection.request(headers=headers)
    return answer.status, answer.headers.get("x-fairvisor-reason", "")


def test_no_forged_token_is_taken(serve: Serve, bundle: object) -> None:
    assert len(SENDABLE) >= 90
    daemon = serve(bundle, shards=2)
    with daemon.connect() as connection:
        for name, token in SENDABLE.items():
            assert ask(connection, token) == (401, "invalid_token"), name
            assert ask(connection, ACCEPTED["hs"])[0] == 200
        for name, token in ACCEPTED.items():
            assert ask(connection, token)[0] == 200, name
    assert "Traceback" not in daemon.said()
    long = [token.decode() for token in SENDABLE.values() if len(token) > 20]
    assert not [token for token in long if token in daemon.said()]


def test_a_reload_ends_what_the_old_key_has_signed(
    serve: Serve, bundle: dict[str, Any], wait_until: Callable[..., None]
) -> None:
    old, new = plain(), plain({"sub": "u", "n": 1})
    daemon = serve(bundle, file_poll_interval=0.05, worker_processes=2)
    with daemon.connect() as one, daemon.connect() as other:
        for connection in (one, other, one):
            assert ask(connection, old)[0] == 200  # remembered from here on
        changed = json.dumps(bundle | {"bundle_version": 2})
        (daemon.folder / "policy.json").write_text(changed.replace(SECRET, SECRET[::-1]))
        wait_until(lambda: "bundle_applied: version 2" in daemon.said(), 20.0, "applied")
        for connection in (one, other, one):
            for token in (old, new):
                assert ask(connection, token) == (401, "invalid_token")
