"""What the daemon wrote of its refusals is what `fairvisor test` reads (behaviour §16.1, §19)."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Daemon = Any
"""The `Daemon` of conftest.py."""

ROOT = Path(__file__).parents[2]


def test_recorded_refusals_can_be_replayed_against_another_limit(
    serve: Callable[..., Daemon],
    bucket_policy: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    tight = {"bundle_version": 1, "policies": [bucket_policy("p", "/", "header:x-team", 0.01, 2)]}
    daemon = serve(tight)
    for team in ("red", "red", "red", "red", "blue", "blue", "blue"):
        daemon.decide("/work?id=1", {"X-Team": team, "X-Forwarded-For": "192.0.2.7"})
    daemon.stop()
    lines = [line for line in daemon.said().splitlines() if line.startswith("{")]
    assert [json.loads(line)["descriptors"] for line in lines] == [
        {"header:x-team": "red"},
        {"header:x-team": "red"},
        {"header:x-team": "blue"},
    ]
    records, policy = tmp_path / "records.ndjson", tmp_path / "policy.json"
    records.write_text("\n".join(lines))
    tight["policies"][0]["spec"]["rules"][0]["algorithm_config"]["burst"] = 1
    policy.write_text(json.dumps(tight))
    command = ["test", str(policy), "--requests", str(records), "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "daemon.cli.main", *command],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    report = json.loads(done.stdout)
    assert [item["action"] for item in report["results"]] == ["allow", "reject", "allow"]
    assert report["summary"] == {"total": 3, "allow": 2, "reject": 1, "throttle": 0}
