"""docs/cli.md shows what really happens: its commands run, in order, in one folder."""

import json
import re
import subprocess
from pathlib import Path
from shlex import join, quote
from types import SimpleNamespace

from daemon.cli.main import COMMANDS

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"
_FILE = re.compile(r"as `([a-z.]+)`:\n\n```json\n(.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
_METRICS = """# TYPE fairvisor_decisions_total counter
fairvisor_decisions_total{action="allow",policy="a b"} 1290.0
fairvisor_decisions_total{action="reject",policy="a b"} 4.0
fairvisor_saas_reachable 0.0
"""
_OPEN = [
    {"policy": "chat", "key": "search", "opened_at": "2026-01-01T00:00:05.120Z", "resets_at": None},
    {
        "policy": "chat",
        "key": "ads",
        "opened_at": "2026-01-01T00:02:00.007Z",
        "resets_at": "2026-01-01T00:12:00.007Z",
    },
]


def examples() -> list[tuple[str, str]]:
    """Return (command, output) of every example."""
    found = []
    for block in _CONSOLE.findall(DOCUMENT.read_text()):
        for part in ("\n" + block).split("\n$ ")[1:]:
            shell, _, output = part.partition("\n")
            found.append((shell, output.strip("\n")))
    return found


def test_every_command_has_an_example() -> None:
    shown = " ".join(shell for shell, _ in examples())
    assert [name for name in COMMANDS if f"fairvisor {name}" not in shown] == []


def test_the_examples_print_what_the_document_says(
    tmp_path: Path,
    command: tuple[list[str], dict[str, str]],
    edge: SimpleNamespace,
    admin: SimpleNamespace,
) -> None:
    admin.answers["GET /v1/admin/breakers"] = (200, json.dumps(_OPEN))
    admin.answers["POST /v1/admin/breaker/reset"] = (200, '{"reset": 1}')
    edge.answers["/readyz"] = (200, '{"status": "ok", "policy_version": 7}')
    edge.answers["/metrics"] = (200, _METRICS)
    for name, text in _FILE.findall(DOCUMENT.read_text()):
        (tmp_path / name).write_text(text)
    program, environ = command
    environ["FAIRVISOR_EDGE_URL"] = edge.url
    environ["FAIRVISOR_ADMIN_SOCKET"] = admin.path
    function = f'fairvisor() {{ {join(program)} "$@"; }}; cd {quote(str(tmp_path))}; '
    for shell, wanted in examples():
        result = subprocess.run(
            ["sh", "-c", f"{function}{{ {shell}; }} 2>&1"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.stdout.strip("\n") == wanted, shell
    assert (tmp_path / "edge.env.example").exists()
