"""The admin socket of the running daemon (behaviour §5.8, §16, §17)."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

Daemon = Any
"""The `Daemon` of conftest.py."""
Serve = Callable[..., Daemon]
Wait = Callable[..., None]

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
OPEN, CLOSED = 429, 200
RESET = "/v1/admin/breaker/reset"


def policy(name: str, prefix: str, key: str = "header:x-team", **breaker: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a policy whose breaker opens with the third request within a minute."""
    rule = {
        "name": "r",
        "limit_keys": [key],
        "algorithm": "token_bucket",
        "algorithm_config": {"tokens_per_second": 100_000, "burst": 1_000_000},
    }
    safeguard = {"enabled": True, "spend_rate_threshold_per_minute": 3} | breaker
    spec = {"selector": {"pathPrefix": prefix}, "rules": [rule], "circuit_breaker": safeguard}
    return {"id": name, "spec": spec}


def bundle(*policies: dict[str, Any], version: int = 1, **blocks: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"bundle_version": version, "policies": list(policies), **blocks}


CHAT = policy("chat", "/chat/")
DOCS = policy("docs", "/docs/", auto_reset_after_minutes=10, alert=True)


def ask(daemon: Daemon, uri: str, team: str, header: str = "X-Team") -> int:
    return int(daemon.decide(uri, {header: team}).status)


def open_breaker(daemon: Daemon, uri: str, team: str, header: str = "X-Team") -> None:
    # A minute may end in between, which lets some of what was spent count less.
    for _ in range(50):
        if ask(daemon, uri, team, header) == OPEN:
            return
    pytest.fail("it does not open")


def call(
    daemon: Daemon, path: str = "/v1/admin/breakers", document: object = None, method: str = ""
) -> tuple[int, Any]:
    body = b"" if document is None else json.dumps(document).encode()
    with daemon.connect("admin") as connection:
        answer = connection.request(path, method=method or ("POST" if body else "GET"), body=body)
    return answer.status, json.loads(answer.body)


def opened(daemon: Daemon) -> set[tuple[str, str]]:
    status, rows = call(daemon)
    assert status == 200
    return {(row["policy"], row["key"]) for row in rows}


def curl(daemon: Daemon, *arguments: str) -> str:
    command = ["curl", "-sS", "-m", "20", "--unix-socket", daemon.admin, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def fairvisor(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daemon.cli.main", *arguments],
        env={"PYTHONPATH": str(ROOT), "FAIRVISOR_ADMIN_SOCKET": daemon.admin},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def events(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    lines = [line for line in daemon.said().splitlines() if line.startswith("{")]
    return [found for line in lines if (found := json.loads(line))["event"] == name]


def circuit_state(daemon: Daemon) -> dict[str, float]:
    with daemon.connect() as connection:
        lines = connection.request("/metrics").body.decode().splitlines()
    name = 'fairvisor_circuit_state{target="'
    return {
        line.removeprefix(name).split('"')[0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(name)
    }


def test_a_breaker_is_listed_and_reset_with_curl(serve: Serve, wait_until: Wait) -> None:
    daemon = serve(bundle(CHAT, DOCS), shards=3, worker_processes=2)
    assert circuit_state(daemon) == {"chat": 0, "docs": 0}
    before = time.time()
    for team in ("search", "ads"):
        open_breaker(daemon, "/chat/x", team)
    open_breaker(daemon, "/docs/x", "search")
    rows = json.loads(curl(daemon, "http://admin/v1/admin/breakers"))
    assert {(row["policy"], row["key"], row["limit_key"], row["mode"]) for row in rows} == {
        ("chat", "search", "header:x-team", "enforce"),
        ("chat", "ads", "header:x-team", "enforce"),
        ("docs", "search", "header:x-team", "enforce"),
    }
    for row in rows:
        at = datetime.fromisoformat(row["opened_at"]).timestamp()
        assert before - 1 < at < time.time() + 1
        if row["policy"] == "chat":
            assert row["resets_at"] is None
        else:
            assert datetime.fromisoformat(row["resets_at"]).timestamp() == pytest.approx(at + 600)
    assert circuit_state(daemon) == {"chat": 1, "docs": 1}

    only = json.dumps({"policy_id": "chat", "key": "search"})
    assert curl(daemon, "http://admin" + RESET, "-d", only) == '{"reset":1}\n'
    assert opened(daemon) == {("chat", "ads"), ("docs", "search")}
    assert circuit_state(daemon) == {"chat": 1, "docs": 1}
    # State and rate are gone: two more fit into the minute, as for a team that has spent nothing.
    assert [ask(daemon, "/chat/x", "search") for _ in range(2)] == [CLOSED, CLOSED]
    assert ask(daemon, "/chat/x", "ads") == OPEN

    every = json.dumps({"policy_id": "chat"})
    assert curl(daemon, "http://admin" + RESET, "-d", every) == '{"reset":1}\n'
    assert ask(daemon, "/chat/x", "ads") == CLOSED
    assert ask(daemon, "/docs/x", "search") == OPEN
    assert circuit_state(daemon) == {"chat": 0, "docs": 1}
    wait_until(lambda: len(events(daemon, "circuit_breaker_reset")) == 2, PATIENCE, "two events")
    one, all_of_it = events(daemon, "circuit_breaker_reset")
    assert (one["policy_id"], one["scope"], one["reset"]) == ("chat", "header:x-team=search", 1)
    assert (all_of_it["scope"], all_of_it["reset"]) == (None, 1)
    (tripped,) = events(daemon, "circuit_breaker_tripped")
    assert tripped["policy_id"] == "docs"


def test_the_command_line_does_the_same(serve: Serve) -> None:
    daemon = serve(bundle(CHAT), shards=2)
    assert fairvisor(daemon, "breaker", "list").stdout == "No breaker is open.\n"
    open_breaker(daemon, "/chat/x", "a team")
    listed = fairvisor(daemon, "breaker", "list")
    assert listed.returncode == 0
    assert "chat    a team  " in listed.stdout
    reset = fairvisor(daemon, "breaker", "reset", "--policy=chat", "--key", "a team")
    assert (reset.returncode, reset.stdout) == (0, "Reset policy 'chat': 1 breaker was open\n")
    assert ask(daemon, "/chat/x", "a team") == CLOSED
    reset = fairvisor(daemon, "breaker", "reset", "--policy", "chat", "--format=json")
    assert json.loads(reset.stdout) == {"reset": 0}
    unknown = fairvisor(daemon, "breaker", "reset", "--policy", "nope")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "Error: the active bundle has no policy 'nope'\n"
    daemon.stop()
    gone = fairvisor(daemon, "breaker", "reset", "--policy", "chat")
    assert gone.returncode == 2
    assert "no such socket" in gone.stderr


def test_wrong_calls_say_what_is_wrong(serve: Serve) -> None:
    daemon = serve(bundle(CHAT))
    status, told = call(daemon, RESET, {"policy_id": "nope"})
    assert (status, told["error"], told["policy_id"]) == (404, "unknown_policy", "nope")
    for body in (
        {}, [], 7, "text", {"policy_id": 7}, {"policy_id": "chat", "key": 7},
        {"policy_id": "chat", "key": None}, {"policy_id": "chat", "kye": "k"},
    ):  # fmt: skip
        status, told = call(daemon, RESET, body)
        assert (status, told["error"]) == (400, "bad_request"), body
        assert "policy_id" in told["message"]
    for raw in (b"{", b"\xff", b"[" * 60_000, b" " * 70_000, b'{"policy_id": "\\ud800"}'):
        with daemon.connect("admin") as connection:
            answer = connection.request(RESET, method="POST", body=raw)
            assert answer.status == 400, raw[:20]
    for path, method, allowed in (
        (RESET, "GET", "POST"),
        ("/v1/admin/reload", "PUT", "POST"),
        ("/v1/admin/breakers", "POST", "GET, HEAD"),
    ):
        with daemon.connect("admin") as connection:
            answer = connection.request(path, method=method)
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert call(daemon, "/v1/decision")[0] == 404
    assert call(daemon, "/metrics")[0] == 404


def test_it_is_on_no_public_listener(serve: Serve) -> None:
    daemon = serve(bundle(CHAT), unix=True)
    for way in ("tcp", "unix"):
        with daemon.connect(way) as connection:
            assert connection.request("/v1/admin/breakers").status == 404
            assert connection.request(RESET, method="POST", body=b"{}").status == 404


def test_a_credential_is_shown_as_a_digest_and_taken_as_one(serve: Serve, wait_until: Wait) -> None:
    daemon = serve(bundle(policy("p", "/", "header:x-api-key")), shards=2)
    key, long = "canary-key-51f2", "k" * 300
    for each in (key, long):
        open_breaker(daemon, "/x", each, "X-Api-Key")
    shown = {row["key"] for row in call(daemon)[1]}
    assert sorted(each.partition(":")[0] for each in shown) == ["digest", "hashed"]
    for each in shown:
        assert call(daemon, RESET, {"policy_id": "p", "key": each}) == (200, {"reset": 1})
    assert opened(daemon) == set()
    for each in (key, long):
        open_breaker(daemon, "/x", each, "X-Api-Key")
        assert call(daemon, RESET, {"policy_id": "p", "key": each}) == (200, {"reset": 1})
    wait_until(lambda: len(events(daemon, "circuit_breaker_reset")) == 4, PATIENCE, "events")
    assert key not in daemon.said()
    assert long not in daemon.said()


def test_shadow_breakers_are_listed_and_reset_too(serve: Serve) -> None:
    shadow = policy("s", "/")
    shadow["spec"]["mode"] = "shadow"
    daemon = serve(bundle(shadow))
    for _ in range(5):
        assert ask(daemon, "/x", "t") == CLOSED
    assert [row["mode"] for row in call(daemon)[1]] == ["shadow"]
    assert call(daemon, RESET, {"policy_id": "s"}) == (200, {"reset": 1})
    assert call(daemon) == (200, [])


def test_resets_at_the_same_time_under_load(serve: Serve) -> None:
    daemon = serve(bundle(CHAT), shards=3, worker_processes=2)
    stop = threading.Event()
    statuses: list[set[int]] = [set() for _ in range(4)]
    answers: list[tuple[int, Any]] = []

    def load(found: set[int], number: int) -> None:
        with daemon.connect() as connection:
            for turn in range(1_000_000):
                if stop.is_set():
                    return
                team = {"X-Original-URI": "/chat/x", "X-Team": f"t{(number + turn) % 16}"}
                found.add(connection.request(headers=team).status)

    def reset(number: int) -> None:
        for turn in range(10):
            one = {"key": f"t{turn}"} if number % 2 else {}
            answers.append(call(daemon, RESET, {"policy_id": "chat"} | one))

    loads = [
        threading.Thread(target=load, args=each) for each in zip(statuses, range(4), strict=True)
    ]
    resets = [threading.Thread(target=reset, args=(number,)) for number in range(4)]
    for thread in loads + resets:
        thread.start()
    for thread in resets:
        thread.join(PATIENCE)
    stop.set()
    for thread in loads:
        thread.join(PATIENCE)
    assert [status for status, _ in answers] == [200] * 40
    assert sum(told["reset"] for _, told in answers) > 0
    assert all(found <= {OPEN, CLOSED} for found in statuses)
    # Afterwards everything is as if nothing had been.
    assert call(daemon, RESET, {"policy_id": "chat"})[0] == 200
    assert opened(daemon) == set()
    assert [ask(daemon, "/chat/x", "t0") for _ in range(2)] == [CLOSED, CLOSED]
    open_breaker(daemon, "/chat/x", "t0")
    assert opened(daemon) == {("chat", "t0")}
    assert circuit_state(daemon) == {"chat": 1}


def test_a_shard_that_is_killed_comes_back_and_is_asked(serve: Serve, wait_until: Wait) -> None:
    daemon = serve(bundle(CHAT), shards=2)
    for team in ("a", "b", "c", "d", "e", "f"):
        open_breaker(daemon, "/chat/x", team)
    os.kill(daemon.pids()["shard 0"], signal.SIGKILL)
    status, told = call(daemon, RESET, {"policy_id": "chat"})
    assert status == 200, told
    assert opened(daemon) == set()
    wait_until(lambda: circuit_state(daemon) == {"chat": 0}, PATIENCE, "the gauge")

    def all_closed() -> bool:
        return [ask(daemon, "/chat/x", team) for team in "abcdef"] == [CLOSED] * 6

    wait_until(all_closed, PATIENCE, "every breaker closed")


def test_open_breakers_and_their_reset_outlive_a_killed_shard(
    serve: Serve, wait_until: Wait
) -> None:
    daemon = serve(bundle(CHAT))
    for team in ("a", "b"):
        open_breaker(daemon, "/chat/x", team)
    assert call(daemon, RESET, {"policy_id": "chat", "key": "a"}) == (200, {"reset": 1})
    before = daemon.pids()["shard 0"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: daemon.pids().get("shard 0", before) != before, PATIENCE, "another shard")
    assert opened(daemon) == {("chat", "b")}
    wait_until(lambda: circuit_state(daemon) == {"chat": 1}, PATIENCE, "the gauge")
    assert ask(daemon, "/chat/x", "b") == OPEN
    assert ask(daemon, "/chat/x", "a") == CLOSED


def test_a_shard_that_hangs_is_named_and_nobody_else_waits(serve: Serve) -> None:
    daemon = serve(bundle(CHAT), shards=2)
    shard = daemon.pids()["shard 1"]
    os.kill(shard, signal.SIGSTOP)
    try:
        with daemon.connect("admin") as waiting:
            waiting.ask(RESET, method="POST", body=b'{"policy_id": "chat"}')
            assert call(daemon, RESET, {"policy_id": "nope"})[0] == 404
            assert daemon.decide("/elsewhere").status == 200
            answer = waiting.answer()
    finally:
        os.kill(shard, signal.SIGCONT)
    assert answer.status == 503
    told = json.loads(answer.body)
    assert told["error"] == "shard_unavailable"
    assert "shard 1" in told["message"]
    assert call(daemon, RESET, {"policy_id": "chat"})[0] == 200


def test_clients_that_hang_block_nobody(serve: Serve, wait_until: Wait) -> None:
    daemon = serve(bundle(CHAT))
    hung = [daemon.connect("admin") for _ in range(40)]
    try:
        for number, connection in enumerate(hung):
            if number % 2:
                connection.send(b"POST /v1/admin/breaker/reset HTTP/1.1\r\nHost: a\r\nContent-")
        assert daemon.decide("/chat/x", {"X-Team": "t"}).status == CLOSED

        def answered() -> bool:
            try:
                return call(daemon)[0] == 200
            except (EOFError, OSError, json.JSONDecodeError):
                return False

        wait_until(answered, PATIENCE, "their time is over")
    finally:
        for connection in hung:
            connection.close()


def test_a_reload_by_hand(serve: Serve, wait_until: Wait) -> None:
    daemon = serve(bundle(CHAT, version=5), file_poll_interval=3600)
    file = daemon.folder / "policy.json"

    def reload(document: object) -> tuple[int, Any]:
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return call(daemon, "/v1/admin/reload", method="POST")

    status, told = reload(bundle(CHAT, DOCS, version=6))
    assert (status, told["version"], told["applied"]) == (200, 6, True)
    assert reload(bundle(CHAT, DOCS, version=6))[1]["applied"] is False
    bad = bundle(CHAT, version=0)
    status, told = reload(bad)
    assert (status, told["error"], told["version"]) == (409, "bundle_rejected", 6)
    said = subprocess.run(
        [sys.executable, "-m", "daemon.cli.main", "validate", str(file), "--format=json"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert told["errors"] == json.loads(said.stdout)["errors"]
    assert reload("{")[0] == 409
    file.unlink()
    status, told = call(daemon, "/v1/admin/reload", method="POST")
    assert status == 409
    assert "No such file" in told["errors"][0]["message"]
    # As with SIGHUP, a lower version is taken: the operator asks for it.
    assert reload(bundle(CHAT, version=4))[1]["version"] == 4
    wait_until(lambda: len(events(daemon, "bundle_applied")) == 2, PATIENCE, "events")
    assert [each["bundle_version"] for each in events(daemon, "bundle_applied")] == [6, 4]
    assert len(events(daemon, "bundle_rejected")) == 2


def test_a_breaker_stays_open_over_a_reload_until_it_is_reset(serve: Serve) -> None:
    daemon = serve(bundle(CHAT), file_poll_interval=3600)
    open_breaker(daemon, "/chat/x", "t")
    (daemon.folder / "policy.json").write_text(json.dumps(bundle(CHAT, DOCS, version=2)))
    assert call(daemon, "/v1/admin/reload", method="POST")[0] == 200
    assert ask(daemon, "/chat/x", "t") == OPEN
    assert opened(daemon) == {("chat", "t")}
    assert circuit_state(daemon) == {"chat": 1, "docs": 0}
    assert call(daemon, RESET, {"policy_id": "chat"}) == (200, {"reset": 1})
    assert ask(daemon, "/chat/x", "t") == CLOSED


def test_the_file_is_private_and_goes_with_the_daemon(serve: Serve) -> None:
    daemon = serve(bundle(CHAT))
    mode = Path(daemon.admin).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    daemon.stop()
    assert not Path(daemon.admin).exists()


def test_what_a_killed_daemon_left_is_replaced_and_a_living_one_is_not(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    first = serve(bundle(CHAT), admin_socket=path)
    second = serve(bundle(CHAT), ready=False, admin_socket=path)
    assert second.process.wait(60) == 1
    why = f"FAIRVISOR_ADMIN_SOCKET: {path} is in use by another daemon"
    assert second.said() == f"fairvisor: {why}\n"
    with first.connect_at(str(path)) as connection:
        assert connection.request("/v1/admin/breakers").body == b"[]\n"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere/at/all", "/nowhere/at/all lies in a folder that does not exist"),
        ("relative", "'relative' needs to be an absolute path of at most 107 bytes, or none"),
    ],
)
def test_one_that_cannot_be_had_ends_the_start(serve: Serve, path: str, why: str) -> None:
    daemon = serve(bundle(CHAT), ready=False, admin_socket=path)
    assert daemon.process.wait(60) == 1
    assert daemon.said() == f"fairvisor: FAIRVISOR_ADMIN_SOCKET: {why}\n"


def test_none_is_none(serve: Serve) -> None:
    daemon = serve(bundle(CHAT), admin_socket="none")
    assert "admin socket" not in daemon.said()
    assert not Path(daemon.admin).exists()


def test_overrides_are_told_when_they_begin_and_when_they_end(
    serve: Serve, wait_until: Wait
) -> None:
    daemon = serve(bundle(CHAT), file_poll_interval=3600)
    soon = time.gmtime(time.time() + 8)
    blocks = {
        "global_shadow": {
            "enabled": True,
            "reason": "incident",
            "expires_at": "2099-01-01T00:00:00Z",
        },
        "kill_switch_override": {
            "enabled": True,
            "reason": "too wide",
            "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", soon),
        },
    }
    (daemon.folder / "policy.json").write_text(json.dumps(bundle(CHAT, version=2, **blocks)))
    assert call(daemon, "/v1/admin/reload", method="POST")[0] == 200

    def told(name: str) -> list[tuple[str, str]]:
        return [(each["override"], each["override_reason"]) for each in events(daemon, name)]

    both = [("global_shadow", "incident"), ("kill_switch_override", "too wide")]
    wait_until(lambda: told("override_active") == both, PATIENCE, "both begin")
    wait_until(lambda: told("override_ended") == both[1:], PATIENCE, "one expires")
    assert events(daemon, "override_ended")[0]["cause"] == "expired"
    (daemon.folder / "policy.json").write_text(json.dumps(bundle(CHAT, version=3)))
    assert call(daemon, "/v1/admin/reload", method="POST")[0] == 200
    wait_until(lambda: told("override_ended") == both[::-1], PATIENCE, "the other is removed")
    assert events(daemon, "override_ended")[1]["cause"] == "removed"
