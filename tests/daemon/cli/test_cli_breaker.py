"""`fairvisor breaker` (§16, §17) against a socket that answers as a daemon does, and worse."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

Run = Callable[..., Result]
LIST, RESET = "GET /v1/admin/breakers", "POST /v1/admin/breaker/reset"
ROW = {
    "policy": "chat",
    "key": "search",
    "opened_at": "2026-01-01T00:00:00.000Z",
    "resets_at": None,
    "limit_key": "header:x-team",
    "mode": "enforce",
}


def test_a_list(fairvisor: Run, admin: SimpleNamespace) -> None:
    other = ROW | {"key": "a\nb\x1b[0m", "resets_at": "2026-01-01T00:10:00.000Z"}
    admin.answers[LIST] = (200, json.dumps([ROW, other]))
    result = fairvisor("breaker", "list", "--socket", admin.path)
    assert result.exit_code == 0
    assert result.stdout == (
        "POLICY  KEY            OPENED                    RESETS\n"
        "chat    search         2026-01-01T00:00:00.000Z  by hand\n"
        "chat    'a\\nb\\x1b[0m'  2026-01-01T00:00:00.000Z  2026-01-01T00:10:00.000Z\n"
    )
    result = fairvisor("breaker", "list", "--format=json", FAIRVISOR_ADMIN_SOCKET=admin.path)
    assert json.loads(result.stdout) == [ROW, other]


def test_an_empty_list(fairvisor: Run, admin: SimpleNamespace) -> None:
    admin.answers[LIST] = (200, "[]")
    result = fairvisor("breaker", "list", "--socket", admin.path)
    assert (result.exit_code, result.stdout) == (0, "No breaker is open.\n")


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (["--policy", "chat"], {"policy_id": "chat"}),
        (["--policy=chat", "--key", "search"], {"policy_id": "chat", "key": "search"}),
        (["--policy=chat", "--key="], {"policy_id": "chat", "key": ""}),
        (["--policy=ä", "--key=ü"], {"policy_id": "ä", "key": "ü"}),
    ],
)
def test_a_reset(
    fairvisor: Run, admin: SimpleNamespace, options: list[str], body: dict[str, str]
) -> None:
    admin.answers[RESET] = (200, '{"reset": 1}')
    result = fairvisor("breaker", "reset", *options, "--socket", admin.path)
    policy = body["policy_id"]
    assert (result.exit_code, result.stdout) == (
        0,
        f"Reset policy '{policy}': 1 breaker was open\n",
    )
    assert [json.loads(each) for each in admin.asked] == [body]
    result = fairvisor("breaker", "reset", *options, "--socket", admin.path, "--format", "json")
    assert json.loads(result.stdout) == {"reset": 1}


def test_an_unknown_policy_is_a_failure(fairvisor: Run, admin: SimpleNamespace) -> None:
    admin.answers[RESET] = (404, '{"error": "unknown_policy", "message": "m", "policy_id": "x"}')
    result = fairvisor("breaker", "reset", "--policy=x", "--socket", admin.path)
    assert result.exit_code == 1
    assert result.stderr == "Error: the active bundle has no policy 'x'\n"


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        (503, '{"error": "shard_unavailable", "message": "shard 1 is away"}', "shard 1 is away"),
        (200, "nonsense", "not an answer of ours"),
        (200, '"text"', "not as fairvisor does"),
        (200, "[" * 100_000, "not an answer of ours"),
        (404, "[]", "not as fairvisor does"),
    ],
)
def test_a_daemon_that_cannot_is_a_remote_failure(
    fairvisor: Run, admin: SimpleNamespace, status: int, text: str, says: str
) -> None:
    admin.answers |= {LIST: (status, text), RESET: (status, text)}
    for arguments in (["list"], ["reset", "--policy=p"]):
        result = fairvisor("breaker", *arguments, "--socket", admin.path)
        assert result.exit_code == 2
        assert says in result.stderr
        assert result.stderr.count("\n") == 1


def test_nobody_there(fairvisor: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    for name, says in (("dead", "nobody answers"), ("none-at-all", "no such socket")):
        result = fairvisor("breaker", "list", FAIRVISOR_ADMIN_SOCKET=str(tmp_path / name))
        assert result.exit_code == 2
        assert f"{tmp_path / name}: {says}" in result.stderr


def test_without_a_name_it_looks_where_the_daemon_would_be(
    fairvisor: Run, admin: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.answers[LIST] = (200, "[]")
    monkeypatch.setattr("daemon.admin_socket.DEFAULT", str(tmp_path / "nothing"))
    (tmp_path / "fairvisor").mkdir()
    (tmp_path / "fairvisor" / "admin.sock").symlink_to(admin.path)
    assert fairvisor("breaker", "list", XDG_RUNTIME_DIR=str(tmp_path)).exit_code == 0
    result = fairvisor("breaker", "list", XDG_RUNTIME_DIR=str(tmp_path / "none"))
    assert result.exit_code == 2
    assert str(tmp_path / "nothing") in result.stderr


def test_none_is_told(fairvisor: Run) -> None:
    result = fairvisor("breaker", "list", FAIRVISOR_ADMIN_SOCKET="none")
    assert result.exit_code == 2
    assert "the daemon has no admin socket" in result.stderr


def test_help_explains_both(fairvisor: Run) -> None:
    for name in ("list", "reset"):
        by_option, by_command = (
            fairvisor("breaker", name, "--help"),
            fairvisor("help", "breaker", name),
        )
        assert by_option.exit_code == by_command.exit_code == 0
        assert by_option.stdout == by_command.stdout
        assert f"Usage: fairvisor breaker {name} [OPTIONS]" in by_option.stdout
        assert "Example: fairvisor breaker" in by_option.stdout


def test_shells_complete_it(fairvisor: Run) -> None:
    completing = {"_FAIRVISOR_COMPLETE": "bash_complete"}
    asked = [("fairvisor br", 1, "breaker"), ("fairvisor breaker r", 2, "reset"),
             ("fairvisor breaker reset --po", 3, "--policy")]  # fmt: skip
    for words, at, wanted in asked:
        result = fairvisor(**completing, COMP_WORDS=words, COMP_CWORD=str(at))
        assert f"plain,{wanted}" in result.stdout.splitlines()
