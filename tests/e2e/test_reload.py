"""New bundles under load, rollbacks, signatures and key files (behaviour §2.6, §2.7, §12.2)."""

import json
import os
import signal
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.signing import sign

Daemon = Any
"""The `Daemon` of conftest.py."""

POLL = 0.05
PATIENCE = 20.0


def bundle(version: int, burst: int, policy: str = "p") -> dict[str, object]:
    rule = {
        "name": "r",
        "limit_keys": ["header:x-key"],
        "algorithm": "token_bucket",
        "algorithm_config": {"tokens_per_second": 0.0001, "burst": burst},
    }
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    return {"bundle_version": version, "policies": [{"id": policy, "spec": spec}]}


def replace(daemon: Daemon, content: bytes, name: str = "policy.json") -> None:
    """Put a file in place at once, as a careful operator does."""
    new = daemon.folder / "new"
    new.write_bytes(content)
    new.replace(daemon.folder / name)


def version(daemon: Daemon) -> int:
    with daemon.connect() as connection:
        return int(json.loads(connection.request("/readyz").body)["policy_version"])


def test_a_reload_under_load_loses_no_request_and_mixes_no_bundles(
    serve: Callable[..., Daemon], wait_until: Callable[..., None]
) -> None:
    daemon = serve(bundle(1, 100_000), worker_processes=2, shards=3, file_poll_interval=POLL)
    stop = threading.Event()
    seen: list[list[tuple[int, str]]] = [[] for _ in range(4)]

    def load(found: list[tuple[int, str]], key: str) -> None:
        with daemon.connect() as connection:
            while not stop.is_set():
                answer = connection.request(headers={"X-Original-URI": "/x", "X-Key": key})
                found.append((answer.status, answer.headers["ratelimit-policy"]))

    threads = [
        threading.Thread(target=load, args=(found, f"k{number}"))
        for number, found in enumerate(seen)
    ]
    for thread in threads:
        thread.start()
    for number in range(2, 8):
        replace(daemon, json.dumps(bundle(number, 100_000 * number, f"p{number}")).encode())
        wait_until(lambda wanted=number: version(daemon) == wanted, PATIENCE, "the new bundle")
        switched = time.monotonic()
    wait_until(lambda: f"bundle_applied: version {number} " in daemon.said(), PATIENCE, "a word")
    count = [len(found) for found in seen]
    wait_until(
        lambda: all(len(found) > n + 20 for found, n in zip(seen, count, strict=True)),
        PATIENCE,
        "answers after the switch",
    )
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert switched
    for found in seen:
        assert {status for status, _ in found} == {200}
        policies = [policy for _, policy in found]
        # On one connection a bundle, once left, never comes back.
        runs = [p for at, p in enumerate(policies) if at == 0 or policies[at - 1] != p]
        assert len(runs) == len(set(runs))
        assert runs[-1].startswith('"p7";q=700000')


def test_a_storm_of_hangups_under_load_drops_no_connection(
    serve: Callable[..., Daemon], wait_until: Callable[..., None]
) -> None:
    daemon = serve(bundle(1, 100_000), worker_processes=2, shards=2)
    stop = threading.Event()
    statuses: list[int] = []
    broken: list[str] = []

    def load(key: str) -> None:
        try:
            with daemon.connect() as connection:  # the same one all the time
                while not stop.is_set():
                    answer = connection.request(headers={"X-Original-URI": "/x", "X-Key": key})
                    statuses.append(answer.status)
        except (OSError, EOFError) as error:
            broken.append(repr(error))

    threads = [threading.Thread(target=load, args=(f"k{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 5):
        replace(daemon, json.dumps(bundle(number, 100_000)).encode())
        for _ in range(100):
            os.kill(daemon.process.pid, signal.SIGHUP)
            time.sleep(0.001)
        wait_until(lambda wanted=number: version(daemon) == wanted, PATIENCE, "the new bundle")
    before = len(statuses)
    wait_until(lambda: len(statuses) > before + 20, PATIENCE, "requests go on")
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert broken == []
    assert set(statuses) == {200}
    assert daemon.said().count("bundle_applied: ") == 3


def test_counters_of_unchanged_rules_survive_also_a_new_limit(
    serve: Callable[..., Daemon], wait_until: Callable[..., None]
) -> None:
    daemon = serve(bundle(1, 10), file_poll_interval=POLL)
    key = {"X-Key": "k"}
    for _ in range(8):
        daemon.decide("/x", key)
    replace(daemon, json.dumps(bundle(2, 20)).encode())
    wait_until(lambda: version(daemon) == 2, PATIENCE, "the new bundle")
    assert daemon.decide("/x", key).headers["ratelimit-remaining"] == "1"


def test_the_last_good_bundle_stays_and_a_sighup_goes_back(
    serve: Callable[..., Daemon], wait_until: Callable[..., None]
) -> None:
    daemon = serve(bundle(5, 10), file_poll_interval=POLL)
    replace(daemon, b'{"bundle_version": 6, "policies": [{"id": "p"}]}')
    wait_until(lambda: "$.policies[0].spec" in daemon.said(), PATIENCE, "the error")
    assert version(daemon) == 5
    (daemon.folder / "policy.json").unlink()
    wait_until(lambda: "cannot be read" in daemon.said(), PATIENCE, "the missing file")
    assert daemon.decide("/x", {"X-Key": "k"}).status == 200
    replace(daemon, json.dumps(bundle(4, 10)).encode())
    wait_until(lambda: "version_not_monotonic" in daemon.said(), PATIENCE, "the refusal")
    assert version(daemon) == 5
    os.kill(daemon.process.pid, signal.SIGHUP)
    wait_until(lambda: version(daemon) == 4, PATIENCE, "the rollback")
    logged = [line for line in daemon.said().splitlines() if line.startswith("fairvisor: ")]
    assert sum("version_not_monotonic" in line for line in logged) == 1


def test_signed_bundles_only(serve: Callable[..., Daemon], wait_until: Callable[..., None]) -> None:
    key = "a key that signs"
    text = sign(key.encode(), json.dumps(bundle(1, 10)).encode()).decode()
    daemon = serve(text, bundle_signing_key=key, file_poll_interval=POLL)
    replace(daemon, json.dumps(bundle(2, 10)).encode())
    wait_until(lambda: "bundle_rejected" in daemon.said(), PATIENCE, "the refusal")
    assert version(daemon) == 1
    replace(daemon, sign(key.encode(), json.dumps(bundle(3, 10)).encode()))
    wait_until(lambda: version(daemon) == 3, PATIENCE, "the signed bundle")
    assert key not in daemon.said()


def test_a_rotated_key_file_is_read_again(
    serve: Callable[..., Daemon], wait_until: Callable[..., None]
) -> None:
    old, new = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    keys = {"id": "k", "algorithm": "EdDSA", "jwks_file": "keys.json"}
    document = bundle(1, 1000) | {"jwt": {"keys": [keys], "required": True}}
    daemon = serve(bundle(1, 1000), file_poll_interval=POLL)
    replace(daemon, jwks(old), "keys.json")
    replace(daemon, json.dumps(document | {"bundle_version": 2}).encode())
    wait_until(lambda: version(daemon) == 2, PATIENCE, "verification")
    assert daemon.decide("/x", bearer(old)).status == 200
    assert daemon.decide("/x", bearer(new)).status == 401
    replace(daemon, jwks(new), "keys.json")
    wait_until(lambda: daemon.decide("/x", bearer(new)).status == 200, PATIENCE, "the new key")
    assert daemon.decide("/x", bearer(old)).status == 401


def jwks(key: Ed25519PrivateKey) -> bytes:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = urlsafe_b64encode(raw).rstrip(b"=").decode()
    return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]}).encode()


def bearer(key: Ed25519PrivateKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'sub': 'u'}, key, 'EdDSA')}", "X-Key": "k"}
