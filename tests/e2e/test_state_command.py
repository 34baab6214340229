"""`fairvisor state`: beside a running daemon, and on what one has left (behaviour §13.5)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
RULES = [
    {
        "name": "spend",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 100,
            "period": "1mo",
            "fixed_cost": 2,
            "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
        },
    },
    {
        "name": "tokens",
        "limit_keys": ["header:x-team", "header:x-user"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 10_000, "tokens_per_day": 50_000},
    },
]
SAFEGUARDS = {
    "loop_detection": {
        "enabled": True,
        "window_seconds": 600,
        "threshold_identical_requests": 50,
        "action": "reject",
    },
    "circuit_breaker": {"enabled": True, "spend_rate_threshold_per_minute": 1000},
}
BUNDLE = {
    "bundle_version": 1,
    "policies": [
        {"id": "money", "spec": {"selector": {"pathPrefix": "/"}, "rules": RULES, **SAFEGUARDS}}
    ],
}
ALICE = {"X-API-Key": "sk-alice-secret", "X-Team": "ads", "X-User": "alice"}
BOB = {"X-API-Key": "sk-bob-secret", "X-Team": "ads", "X-User": "bob"}


def state(*arguments: str, code: int = 0) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "daemon.cli.main", "state", *arguments],
        env={k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
        | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def counters(folder: Path, *arguments: str) -> dict[tuple[str, str], Any]:
    text = state("inspect", "--state-dir", str(folder), "--format=json", *arguments)
    return {(each["rule"], each["key"]): each for each in json.loads(text)["counters"]}


def test_it_works_beside_a_running_daemon(serve: Callable[..., Any], folder: Path) -> None:
    daemon = serve(BUNDLE, state_dir=folder, shards=3)
    began = time.time()
    for _ in range(3):
        assert daemon.decide("/a", ALICE).status == 200
    found = counters(folder, "--reveal")
    ended = time.time()
    assert found["spend", "sk-alice-secret"]["value"] == {"used": 6, "limit": 100}
    assert found["tokens", "ads, alice"]["value"]["day_left"] == 50_000 - 3 * 1000
    breaker = found["breaker", "sk-alice-secret"]["value"]
    assert breaker["open"] is False
    # Exactly what was spent, unless a minute ended meanwhile: that counts for its share (§5.8).
    least = 6.0 if began // 60 == ended // 60 else 6 * (1 - ended % 60 / 60)
    assert least <= breaker["per_minute"] <= 6
    (loop,) = [each for (rule, _), each in found.items() if rule == "loop"]
    assert loop["value"] == {"hits": 3}
    hidden = state("inspect", "--state-dir", str(folder)) + state(
        "export", "--state-dir", str(folder)
    )
    assert "alice-secret" not in hidden
    assert "hashed:" in hidden
    refused = state("reset", "--state-dir", str(folder), "--all", "--yes", code=1)
    assert f"is in use by a running daemon (process {daemon.process.pid}); stop it first" in refused
    assert daemon.decide("/a", ALICE).headers["ratelimit-remaining"] is not None


def test_one_counter_is_reset_and_the_others_stay(serve: Callable[..., Any], folder: Path) -> None:
    daemon = serve(BUNDLE, state_dir=folder)
    for headers in (ALICE, BOB):
        assert daemon.decide("/a", headers).status == 200
    shown = next(key for (rule, key) in counters(folder) if rule == "spend")
    revealed = next(key for (rule, key) in counters(folder, "--reveal") if rule == "spend")
    assert shown.startswith("hashed:")
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    text = state("reset", "--state-dir", str(folder), "--rule", "spend", "--key", shown, "--yes")
    assert text == "Reset 1 counter(s)\n"
    left = counters(folder, "--rule", "spend", "--reveal")
    assert list(left) == [
        ("spend", {"sk-alice-secret", "sk-bob-secret"}.difference({revealed}).pop())
    ]
    again = serve(BUNDLE, state_dir=folder)
    used = {ALICE["X-API-Key"]: ALICE, BOB["X-API-Key"]: BOB}
    assert again.decide("/a", used[revealed]).status == 200
    after = counters(folder, "--rule", "spend", "--reveal")
    assert {each["value"]["used"] for each in after.values()} == {2}


def test_a_long_value_is_one_counter_for_all_and_found_by_itself(
    serve: Callable[..., Any], folder: Path
) -> None:
    spec = {"selector": {"pathPrefix": "/"}, "rules": RULES[:1]}
    bundle = {"bundle_version": 1, "policies": [{"id": "money", "spec": spec}]}
    long, whole = {"X-API-Key": "k" * 200}, {"X-API-Key": "k" * 40}
    for bound, shards, used in ((40, 3, 6), (40, 2, 12), (1024, 3, 6)):
        daemon = serve(
            bundle, state_dir=folder, shards=shards, worker_processes=2, max_key_chars=bound
        )
        for headers in (long, whole) * 3:
            assert daemon.decide("/a", headers).status == 200
        assert daemon.stop() == 0
        named = counters(folder, "--rule", "spend", "--reveal")
        digests = [key for _, key in named if key.startswith("digest:")]
        assert len(digests) == 1
        newest = digests[0] if bound == 40 else "k" * 200
        assert named["spend", newest]["value"]["used"] == used
    assert named["spend", "k" * 40]["value"]["used"] == 18
    assert len(named) == 3
    text = state("reset", "--state-dir", str(folder), "--rule=spend", "--key", "k" * 200, "--yes")
    assert text == "Reset 2 counter(s)\n"
    assert list(counters(folder, "--rule", "spend", "--reveal")) == [("spend", "k" * 40)]


def test_export_is_one_object_a_line(serve: Callable[..., Any], folder: Path) -> None:
    daemon = serve(BUNDLE, state_dir=folder)
    held = daemon.decide("/v1/chat/completions", ALICE).headers["x-fairvisor-reservation"]
    assert daemon.stop() == 0
    text = state("export", "--state-dir", str(folder), "--reveal")
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["type"] for line in lines} == {"counter", "reservation"}
    assert {line["rule"] for line in lines if line["type"] == "counter"} == {
        "spend",
        "tokens",
        "loop",
        "breaker",
    }
    assert held not in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["inspect", "--state-dir", "/nowhere/at/all"], 1, "does not exist"),
        (["inspect", "--state-dir", "none"], 1, "in memory only"),
        (
            ["inspect", "--state-dir", "/etc"],
            1,
            "no counters are stored in /etc; name the daemon's",
        ),
        (["export", "--state-dir", "/etc"], 1, "no counters are stored in /etc"),
        (
            ["reset", "--state-dir", "/etc", "--rule=a", "--yes"],
            1,
            "no counters are stored in /etc",
        ),
        (["reset", "--state-dir", "/etc", "--all", "--yes"], 0, "/etc: there is nothing to reset"),
        (["reset", "--state-dir", "/nowhere", "--all", "--yes"], 1, "does not exist"),
        (["inspect", "--state-dir", "/etc/passwd"], 1, "/etc/passwd is not a folder"),
        (["reset", "--state-dir", "/nowhere"], 3, "--policy, --rule or --key, or else --all"),
        (["reset", "--state-dir", "/nowhere", "--all", "--policy", "p"], 3, "or else --all"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], code: int, words: str) -> None:
    assert words in state(*arguments, code=code)
    assert not Path("/etc/lock").exists()


def test_a_reset_asks_and_does_nothing_unasked(serve: Callable[..., Any], folder: Path) -> None:
    daemon = serve(BUNDLE, state_dir=folder)
    assert daemon.decide("/a", ALICE).status == 200
    assert daemon.stop() == 0
    assert "say --yes" in state("reset", "--state-dir", str(folder), "--all", code=1)
    assert len(counters(folder)) == 4
    assert state("reset", "--state-dir", str(folder), "--all", "--yes") == "Reset 4 counter(s)\n"
    assert counters(folder) == {}
    again = state("reset", "--state-dir", str(folder), "--all", "--yes")
    assert again == f"no counters are stored in {folder}: there is nothing to reset\n"
    state("reset", "--state-dir", str(folder), "--policy=money", "--yes", code=1)
