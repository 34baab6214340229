"""What the document says is missing is missing; where a test fails, a line is out of date."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.catalogue import GATEWAYS
from daemon.cli.main import main
from daemon.engine.engine import Engine
from daemon.engine.evaluation import Evaluation
from daemon.engine.sources import Sources
from daemon.replay import Replay, request_of
from daemon.settings import MODES, NOT_YET, VARIABLES
from protocol.bundle import MICRO, Bundle
from protocol.bundle_text import load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/limits-of-this-version.md").read_text()
BREAKER = ROOT / "examples/policies/circuit-breaker/policy.json"
OPENED = 1_770_000_000


def test_it_names_every_variable_that_changes_nothing_and_no_other() -> None:
    named = set(re.findall(r"`(FAIRVISOR_[A-Z_]+)`", TEXT))
    working = {variable.name for variable in VARIABLES}
    assert named - working == set(NOT_YET)
    assert named & working == {"FAIRVISOR_MODE", "FAIRVISOR_CONFIG_FILE"}


def test_every_mode_is_there() -> None:
    assert MODES == ("decision_service", "reverse_proxy", "wrapper", "hybrid")


def test_there_are_no_commands_that_need_what_is_missing() -> None:
    assert not {"breaker", "connect"} & set(main.commands)


def test_there_is_no_adapter_for_the_gateways_that_are_named_as_missing() -> None:
    (line,) = (each for each in TEXT.splitlines() if each.startswith("| Adapters for other"))
    missing = re.findall(r"[A-Z]\w+", line.partition("There is none for ")[2].partition(":")[0])
    assert missing
    folders = {path.name for path in (ROOT / "adapters").iterdir() if path.is_dir()}
    assert not {name.lower() for name in missing} & folders
    assert {gateway.folder for gateway in GATEWAYS} <= folders


def test_sockets_are_not_taken_from_systemd() -> None:
    sources = (ROOT / "daemon").rglob("*.py")
    assert not [path for path in sources if "LISTEN_FDS" in path.read_text()]


def test_there_are_no_packages() -> None:
    names = {path.name for path in (*ROOT.iterdir(), *(ROOT / "deploy").rglob("*"))}
    assert not {"Dockerfile", "Chart.yaml", "debian"} & names


def test_a_killed_shard_forgets_and_a_reload_does_not(
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
    assert left() == "1"


def opened_breaker() -> Replay:
    replay = Replay(bundle("chat"), SOURCES)
    reasons = [ask(replay, OPENED, 2000) for _ in range(3)]
    assert reasons[-1] == "circuit_breaker_open"
    return replay


SOURCES = Sources(draw_id=lambda: bytes(16), shards=1)


def bundle(policy_id: str, **breaker: object) -> Bundle:
    document = json.loads(BREAKER.read_text())
    (policy,) = document["policies"]
    policy["id"] = policy_id
    policy["spec"]["circuit_breaker"] |= {"auto_reset_after_minutes": 0} | breaker
    loaded = load(json.dumps(document).encode(), now=0.0).bundle
    assert loaded is not None
    return loaded


def ask(replay: Replay, at: int, tokens: int = 10) -> str:
    entry = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": {"X-Team": "search"},
        "body": {"max_tokens": tokens, "messages": []},
    }
    return replay.decide(request_of(entry, SOURCES), at * MICRO)[1].decision.reason


def test_a_breaker_without_reset_stays_open() -> None:
    replay = opened_breaker()
    assert ask(replay, OPENED + 30 * 86_400) == "circuit_breaker_open"
    replay.load(bundle("chat", spend_rate_threshold_per_minute=10**6))
    assert ask(replay, OPENED + 31 * 86_400) == "circuit_breaker_open"


def test_a_reload_with_a_reset_time_closes_it() -> None:
    replay = opened_breaker()
    replay.load(bundle("chat", auto_reset_after_minutes=5))
    assert ask(replay, OPENED + 299) == "circuit_breaker_open"
    assert ask(replay, OPENED + 300) == "all_rules_passed"


def test_another_policy_id_has_another_breaker() -> None:
    replay = opened_breaker()
    replay.load(bundle("chat-2"))
    assert ask(replay, OPENED + 1) == "all_rules_passed"


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
