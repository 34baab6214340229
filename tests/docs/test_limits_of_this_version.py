"""What the document says is missing is missing; where a test fails, a line is out of date."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click import Context

from daemon.cli.main import main
from daemon.engine.engine import Engine
from daemon.engine.evaluation import Evaluation
from daemon.engine.sources import Sources
from daemon.replay import request_of
from daemon.settings import MODES, NOT_YET, VARIABLES
from protocol.bundle_text import load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/limits-of-this-version.md").read_text()


def test_it_names_every_variable_that_changes_nothing_and_no_other() -> None:
    named = set(re.findall(r"`(FAIRVISOR_[A-Z_]+)`", TEXT))
    working = {variable.name for variable in VARIABLES}
    assert named - working == set(NOT_YET)
    assert named & working == {"FAIRVISOR_MODE", "FAIRVISOR_CONFIG_FILE"}


def test_every_mode_is_there() -> None:
    assert MODES == ("decision_service", "reverse_proxy", "wrapper", "hybrid")


def test_there_are_no_commands_that_need_what_is_missing() -> None:
    assert "connect" not in main.list_commands(Context(main))


def test_there_are_no_packages() -> None:
    names = {path.name for path in (*ROOT.iterdir(), *(ROOT / "deploy").rglob("*"))}
    assert not {"Dockerfile", "Chart.yaml", "debian"} & names


def test_neither_a_reload_nor_a_killed_shard_forgets(
    serve: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    text = (ROOT / "examples/http-api/policy.json").read_text()
    daemon = serve(text, file_poll_interval=0.05)

    def left() -> str:
        return daemon.decide("/api/items", {"X-Api-Key": "alice"}).headers["ratelimit-remaining"]

    assert left() == "1"
    (daemon.folder / "policy.json").write_text(
        text.replace('"bundle_version": 1', '"bundle_version": 2')
    )
    wait_until(lambda: "bundle_applied" in daemon.said(), 20.0, "applied")
    assert left() == "0"
    os.kill(daemon.pids()["shard 0"], signal.SIGKILL)

    def back() -> bool:
        answer = daemon.decide("/api/items", {"X-Api-Key": "bob"})
        return answer.headers.get("ratelimit-remaining") is not None

    wait_until(lambda: "shard 0 ended" in daemon.said() and back(), 20.0, "shard back")
    refused = daemon.decide("/api/items", {"X-Api-Key": "alice"})
    assert (refused.status, refused.headers["ratelimit-remaining"]) == (429, "0")


SOURCES = Sources(draw_id=lambda: bytes(16), shards=1)


def test_on_error_local_is_as_allow() -> None:
    answers = {}
    for on_error in ("allow", "local", "reject"):
        document = json.loads((ROOT / "examples/quickstart/policy.json").read_text())
        document["policies"][0]["spec"]["rules"][0]["on_error"] = on_error
        loaded = load(json.dumps(document).encode(), now=0.0).bundle
        assert loaded is not None
        engine = Engine(loaded, SOURCES)
        begun = engine.begin(request_of({"path": "/api/x", "ip": "203.0.113.9"}, SOURCES), 0)
        assert isinstance(begun, Evaluation)
        decision = engine.finish(begun).decision  # no shard has replied
        answers[on_error] = (decision.action, decision.reason, decision.degraded)
    assert answers["local"] == answers["allow"] == ("allow", "all_rules_passed", "allow")
    assert answers["reject"] == ("reject", "counter_unavailable", "reject")
