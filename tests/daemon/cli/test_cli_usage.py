"""Exit codes, flags, help and completion (§16)."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from daemon.cli.exits import Failure, RemoteFailure, run
from daemon.cli.main import COMMANDS, main
from daemon.llm import meter
from tests.end_with_us import KILLED

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / "examples" / "quickstart" / "policy.json"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["--nope"],
        ["validate"],
        ["validate", "a", "b"],
        ["validate", "a", "--nope"],
        ["validate", "a", "--format=xml"],
        ["validate", "a", "--format"],
        ["validate", "a", "--strict=maybe"],
        ["validate", "a", "--at=noon"],
        ["validate", "a", "--at=nan"],
        ["validate", "a", "--at=-1"],
        ["test", "a", "--format=text"],
        ["init", "--template=nope"],
        ["help", "nope"],
        ["help", "breaker", "nope"],
        ["help", "version", "nope"],
        ["breaker"],
        ["breaker", "nope"],
        ["breaker", "reset"],
        ["breaker", "reset", "--policy"],
        ["breaker", "list", "--format=xml"],
        ["breaker", "list", "--socket=relative"],
        ["completion"],
        ["completion", "tcsh"],
        ["status", "--edge-url=localhost:8080"],
        ["status", "--edge-url=file:///etc/passwd"],
        ["status", "--edge-url=http://[::1"],
        ["status", "--edge-url=http://x:port"],
    ],
)
def test_a_wrong_call_ends_with_3_and_says_why(
    fairvisor: Callable[..., Result], arguments: list[str]
) -> None:
    result = fairvisor(*arguments)
    assert result.exit_code == 3
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_command_with_an_example(
    fairvisor: Callable[..., Result], name: str
) -> None:
    by_option, by_command = fairvisor(name, "--help"), fairvisor("help", name)
    assert by_option.exit_code == by_command.exit_code == 0
    assert by_option.stdout == by_command.stdout
    assert f"Usage: fairvisor {name}" in by_option.stdout
    assert "Example: " in by_option.stdout


def test_the_list_of_commands_says_what_each_command_says_of_itself(
    fairvisor: Callable[..., Result],
) -> None:
    with click.Context(main) as context:
        for name, (does, _) in COMMANDS.items():
            found = main.get_command(context, name)
            assert found is not None
            assert (found.name, found.short_help) == (name, does)
    text = fairvisor("help").stdout
    assert text == fairvisor("--help").stdout
    assert all(does in text for does, _ in COMMANDS.values())


@pytest.mark.parametrize("shape", ["--format=json", "--format json"])
@pytest.mark.parametrize("flag", ["--strict", "--strict=true", "--strict=TRUE", "--strict=false"])
def test_options_and_flags_in_every_spelling(
    fairvisor: Callable[..., Result], shape: str, flag: str
) -> None:
    Path("policy.json").write_text('{"bundle_version": 1, "policies": [], "extra": 1}')
    result = fairvisor("validate", flag, "policy.json", *shape.split())
    assert result.exit_code == (0 if "false" in flag else 1)
    assert '"valid"' in result.stdout


def test_what_stands_behind_two_dashes_is_no_option(fairvisor: Callable[..., Result]) -> None:
    Path("--strict=true").write_bytes(QUICKSTART.read_bytes())
    assert fairvisor("validate", "--", "--strict=true").exit_code == 0


def test_version(fairvisor: Callable[..., Result]) -> None:
    assert fairvisor("version").stdout.startswith("fairvisor ")
    assert (" (compiled)" in fairvisor("version").stdout) is meter.__file__.endswith(".so")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(fairvisor: Callable[..., Result], shell: str) -> None:
    assert f"_FAIRVISOR_COMPLETE={shell}_complete" in fairvisor("completion", shell).stdout


@pytest.mark.parametrize(("words", "wanted"), [("va", "validate"), ("validate --st", "--strict")])
def test_the_script_completes_commands_and_options(
    command: tuple[list[str], dict[str, str]], words: str, wanted: str
) -> None:
    program, environ = command
    environ |= {
        "_FAIRVISOR_COMPLETE": "bash_complete",
        "COMP_WORDS": f"fairvisor {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    result = subprocess.run(program, env=environ, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [f"plain,{wanted}"]


@pytest.mark.parametrize("arguments", [["version"], ["validate", str(QUICKSTART)], ["help"]])
def test_small_commands_do_not_import_the_daemon(
    command: tuple[list[str], dict[str, str]], arguments: list[str]
) -> None:
    program, environ = command
    result = subprocess.run(
        [program[0], "-X", "importtime", *program[1:], *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "click" in imported
    heavy = {"uvloop", "asyncio", "httptools", "prometheus_client", "genai_prices", "splintr"}
    if "help" not in arguments:
        assert not imported & (heavy | {"daemon.engine.engine"})
    assert not imported & (heavy - {"asyncio"})


@pytest.mark.parametrize(
    ("cause", "code", "words"),
    [
        (Failure("no"), 1, "Error: no\n"),
        (RemoteFailure("away"), 2, "Error: away\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (MemoryError(), 1, "Error: out of memory\n"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (PermissionError(13, "Permission denied", "/x"), 1, "Error: /x: Permission denied\n"),
        (ZeroDivisionError("oops"), 1, "Error: internal error, ZeroDivisionError: oops"),
    ],
)
def test_whatever_happens_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], cause: BaseException, code: int, words: str
) -> None:
    def fail() -> None:
        raise cause

    with pytest.raises(SystemExit) as left:
        run(fail)
    assert left.value.code == code
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == (1 if words else 0)


def test_a_reader_that_leaves_early_ends_the_command_quietly(
    command: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    program, environ = command
    requests = tmp_path / "requests.json"
    requests.write_text('[{"path": "/api/x", "at": 0, "repeat": 20000}]')
    with subprocess.Popen(
        [*program, "test", str(QUICKSTART), "--requests", str(requests)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"1. GET /api/x -> ")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_ctrl_c_ends_with_130_and_no_traceback(
    command: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    program, environ = command
    records = tmp_path / "records"
    records.write_text("{}\n")
    with subprocess.Popen(
        [*KILLED, *program, "logs", "--follow", "--file", str(records)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"{}\n"
        os.kill(process.pid, signal.SIGINT)
        try:
            assert process.communicate(timeout=60)[1].strip() == b""
        finally:
            process.kill()
    assert process.returncode == 130


def test_a_terminal_that_knows_ascii_only_gets_escapes(
    command: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    program, environ = command
    (tmp_path / "requests.json").write_text('[{"path": "/\\u00e9", "at": 0}]')
    result = subprocess.run(
        [*program, "test", str(QUICKSTART), "--requests", str(tmp_path / "requests.json")],
        env=environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert result.stdout.startswith(b"1. GET /\\xe9 -> allow")


def test_the_version_is_an_option_too(fairvisor: Callable[..., Result]) -> None:
    asked = fairvisor("--version")
    assert (asked.exit_code, asked.stderr) == (0, "")
    assert asked.stdout == fairvisor("version").stdout
    assert asked.stdout.startswith("fairvisor ")
