"""`fairvisor logs` (§16)."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.end_with_us import KILLED

RECORDS = """\
{"action": "reject", "reason": "tpm_exceeded", "n": 1}
not json
{"action": "reject", "reason": "budget_exhausted", "n":  2}
[1]
{"action": "allow", "reason": "all_rules_passed", "n": 3}

{"event": "bundle_applied", "reason": "tpm_exceeded"}
{"action": "reject", "reason": "tpm_exceeded", "n": 4}"""


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        ([], [0, 2, 4, 6, 7]),
        (["--action=reject"], [0, 2, 7]),
        (["--reason", "tpm_exceeded"], [0, 6, 7]),
        (["--reason", "tpm_exceeded", "--action", "reject"], [0, 7]),
        (["--action=throttle"], []),
    ],
)
def test_conditions_are_anded_and_lines_stay_as_they_are(
    fairvisor: Callable[..., Result], conditions: list[str], wanted: list[int]
) -> None:
    lines = RECORDS.split("\n")
    expected = "".join(lines[number] + "\n" for number in wanted)
    result = fairvisor("logs", *conditions, stdin=RECORDS)
    assert (result.exit_code, result.stdout, result.stderr) == (0, expected, "")
    Path("records").write_text(RECORDS)
    assert fairvisor("logs", *conditions, "--file=records").stdout == expected


def test_bytes_and_long_lines_are_dropped(fairvisor: Callable[..., Result]) -> None:
    long = b'{"action": "' + b"x" * (3 << 20) + b'"}'
    text = b'\xff\n{"a": "\xff"}\n' + long + b'\n{"n": 1}\n' + long
    assert fairvisor("logs", stdin=text).stdout == '{"n": 1}\n'


def test_a_file_that_cannot_be_read(fairvisor: Callable[..., Result]) -> None:
    for path in ("missing", "."):
        result = fairvisor("logs", "--file", path)
        assert result.exit_code == 1
        assert f"Error: {path}: cannot be read" in result.stderr


def test_following_goes_on_behind_growth_rotation_and_truncation(
    command: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    program, environ = command
    path = tmp_path / "records"
    path.write_text('{"n": 1}\n{"n"')
    with subprocess.Popen(
        [*KILLED, *program, "logs", "--follow", f"--file={path}"],
        env=environ,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'{"n": 1}\n'
        with path.open("a") as file:
            file.write(": 2}\n")
        assert process.stdout.readline() == b'{"n": 2}\n'
        path.rename(tmp_path / "records.1")
        path.write_text('{"n": 3}\n')
        assert process.stdout.readline() == b'{"n": 3}\n'
        path.write_text("{}\n")
        assert process.stdout.readline() == b"{}\n"
        process.terminate()


def test_a_reader_that_has_enough_is_a_good_end(
    command: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    program, environ = command
    path = tmp_path / "records"
    path.write_text('{"n": 1}\n' * 100_000)
    with subprocess.Popen(
        [*program, "logs", f"--file={path}"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
