"""docs/cli.md shows what really happens: its commands run, in order, in one folder."""

import json
import re
import subprocess
import time
from pathlib import Path
from shlex import join, quote
from types import SimpleNamespace

from daemon.cli.main import COMMANDS
from protocol.counter_names import counter_name, rule_name
from protocol.periods import bounds
from shard.stores.database import Part, fold
from shard.stores.folder import StateFolder
from shard.stores.image import Image
from shard.stores.schema import open_database, transaction

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"
_FILE = re.compile(r"as `([a-z.]+)`:\n\n```json\n(.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
_METRICS = """# TYPE fairvisor_decisions_total counter
fairvisor_decisions_total{action="allow",policy="a b"} 1290.0
fairvisor_decisions_total{action="reject",policy="a b"} 4.0
fairvisor_saas_reachable 0.0
"""
_BUCKET = {"rate_num": 10, "rate_den": 1000, "burst": 10_000_000}
_BUDGET = {"budget": 20_000_000, "period": "1mo", "timezone": "UTC", "settle": ""}


def stored(folder: Path) -> None:
    """Write two counters as a keeper would."""
    now = time.time_ns() // 1000
    start, end = bounds("1mo", "UTC", now)
    rules = [
        (0, "token_bucket", "api", "per-key", ("1000",), "header:x-api-key", _BUCKET),
        (1, "cost_based", "chat", "per-team", ("1mo", "UTC", ""), "header:x-team", _BUDGET),
    ]
    names = [
        [
            slot,
            kind,
            counter_name(policy, rule_name(rule, kind, shape, [key]), shadow=False),
            params,
        ]
        for slot, kind, policy, rule, shape, key, params in rules
    ]
    states = [0, "alice", [3 * 10**9, now], 1, "search", [start, end, 750_000]]
    image = Image()
    image.add([[now, 0, names, [], states, [], []]])
    connection = open_database(StateFolder(folder).database)
    with transaction(connection):
        fold(connection, image, Part(0, 1), [])
    connection.close()
    (folder / "digest.key").write_bytes(bytes(16))


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
    (tmp_path / "state").mkdir()
    stored(tmp_path / "state")
    environ["FAIRVISOR_STATE_DIR"] = str(tmp_path / "state")
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
