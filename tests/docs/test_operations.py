import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.supervisor.metrics import FAMILIES

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs/operations.md"
POLICY = ROOT / "examples/http-api/policy.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
CHANGING = (
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"sha256:[0-9a-f]+…?", "HASH"),
    (r"/\S+/policy\.json", "POLICY"),
    (r"/\S+/admin\.sock", "ADMIN"),
)
KEY = {"X-Api-Key": "alice"}


def steady(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text


def printed_logs() -> set[str]:
    blocks = re.findall(
        r"<!-- log -->\n```text\n(.*?)^```$", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL
    )
    return {line for block in blocks for line in steady(block).splitlines()}


def names(text: str) -> set[str]:
    return set(re.findall(r"\bfairvisor_[a-z_]+", text))


@pytest.fixture(name="exposed", scope="module")
def _exposed() -> set[str]:
    return {f"fairvisor_{family.name}" for family in FAMILIES}


def test_the_commands_print_what_the_document_says(
    serve: Callable[..., Any], run_document: Callable[..., Any], tmp_path: Path
) -> None:
    daemon = serve(POLICY.read_text())
    for _ in range(5):
        daemon.decide("/api/items", KEY)
    daemon.stop()
    records = [line for line in daemon.said().splitlines() if line.startswith("{")]
    (tmp_path / "work/records.ndjson").write_text("\n".join([*records, ""]))
    other = serve(POLICY.read_text())
    where = {
        "127.0.0.1:8080": f"127.0.0.1:{other.port}",
        "/run/fairvisor/admin.sock": other.admin,
    }
    for step in run_document("operations.md", replace=where):
        assert step.printed == step.expected, step.command


def test_every_printed_log_line_is_one_that_the_daemon_writes(
    serve: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    text = POLICY.read_text()
    daemon = serve(text, shards=2, file_poll_interval=0.05, trusted_proxies="10.0.0.0/8")
    bundle = daemon.folder / "policy.json"

    def said(*words: str) -> None:
        wait_until(lambda: all(word in daemon.said() for word in words), 20.0, str(words))

    with daemon.connect() as connection:
        connection.request("/v1/decision/api/items", headers={"X-Original-URI": "/api/items"})
    said("not a trusted proxy", "was not applied")
    bundle.write_text('{"bundle_version": 2, "policies": [{"spec": {}}]}')
    said("bundle_rejected", "keeps serving")
    bundle.write_text(f"{text} ")
    said("version_not_monotonic")
    bundle.write_text(text.replace('"bundle_version": 1', '"bundle_version": 2'))
    said("bundle_applied: version 2")
    bundle.write_text(text)
    daemon.process.send_signal(signal.SIGHUP)
    said("bundle_applied: version 1")
    old = 0
    for _ in range(5):
        wait_until(lambda o=old: daemon.pids().get("shard 0", o) != o, 20.0, "a new shard")
        old = daemon.pids()["shard 0"]
        os.kill(old, signal.SIGKILL)
    said("shard 0 ended", "shard 0 keeps ending", "not ready")
    daemon.stop()
    missing = printed_logs() - set(steady(daemon.said()).splitlines())
    assert missing == set()


def test_alerts_ask_for_metrics_that_exist(exposed: set[str]) -> None:
    asked = names(
        "\n".join(
            re.findall(
                r"expr: (.*?)^ +(?:for|labels):", ALERTS.read_text(), re.MULTILINE | re.DOTALL
            )
        )
    )
    assert asked
    assert asked <= exposed
    for reason in ("no_bundle_loaded", 'action="reject"', "degraded"):
        assert reason in ALERTS.read_text()


def test_the_document_names_metrics_that_exist_and_all_that_alerts_ask_for(
    exposed: set[str],
) -> None:
    named = names(OPERATIONS.read_text())
    assert named <= exposed
    assert names(ALERTS.read_text()) <= named


def test_promtool_takes_the_alerts_where_it_is_installed() -> None:
    promtool = shutil.which("promtool")
    text = ALERTS.read_text()
    assert text.count("- alert: ") == text.count("expr: ") == text.count("summary: ")
    if promtool is not None:
        subprocess.run([promtool, "check", "rules", ALERTS], check=True, timeout=60)


def test_a_record_holds_no_key(serve: Callable[..., Any]) -> None:
    daemon = serve(POLICY.read_text())
    for _ in range(3):
        daemon.decide("/api/items", {"X-Api-Key": "alice-and-her-key"})
    daemon.stop()
    (record,) = [line for line in daemon.said().splitlines() if line.startswith("{")]
    assert json.loads(record)["reason"] == "rate_limit_exceeded"
    assert "alice-and-her-key" not in record
