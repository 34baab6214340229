"""`fairvisor status` (§9.2, §16)."""

import json
import socket
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from click.testing import Result

READY = '{"status": "ok", "policy_version": 3, "policy_hash": "sha256:0"}'
METRICS = """# HELP fairvisor_decisions_total Decisions.
# TYPE fairvisor_decisions_total counter
fairvisor_decisions_total{action="allow",reason="a b \\"c\\" 9"} 1e+06
fairvisor_decisions_total{action="reject",reason="x"} 2.0
fairvisor_decisions_total_of_others 77
fairvisor_saas_reachable 0.0
"""


def test_a_ready_daemon(fairvisor: Callable[..., Result], edge: SimpleNamespace) -> None:
    edge.answers |= {"/readyz": (200, READY), "/metrics": (200, METRICS)}
    result = fairvisor("status", "--edge-url", edge.url + "/")
    assert (result.exit_code, result.stdout) == (
        0,
        "Status: ok\nPolicy version: 3\nSaaS: not configured\nDecisions: 1000002\n",
    )
    result = fairvisor("status", "--format=json", FAIRVISOR_EDGE_URL=edge.url)
    assert json.loads(result.stdout) == {
        "status": "ok",
        "policy_version": 3,
        "saas": "not configured",
        "decisions": 1_000_002,
    }


def test_a_daemon_that_is_not_ready_is_a_failure(
    fairvisor: Callable[..., Result], edge: SimpleNamespace
) -> None:
    edge.answers["/readyz"] = (503, '{"status": "not_ready", "reason": "no_policy_loaded"}')
    edge.answers["/metrics"] = (200, "")
    result = fairvisor("status", FAIRVISOR_EDGE_URL=edge.url)
    assert result.exit_code == 1
    assert result.stdout.startswith("Status: not_ready (no_policy_loaded)\nPolicy version: none\n")


@pytest.mark.parametrize(
    ("metrics", "word"),
    [
        ("fairvisor_saas_reachable 1.0\n", "connected"),
        (
            'fairvisor_saas_reachable 0.0\nfairvisor_saas_calls_total{status="500"} 2\n',
            "disconnected",
        ),
    ],
)
def test_the_control_plane(
    fairvisor: Callable[..., Result], edge: SimpleNamespace, metrics: str, word: str
) -> None:
    edge.answers |= {"/readyz": (200, READY), "/metrics": (200, metrics)}
    assert f"SaaS: {word}\n" in fairvisor("status", FAIRVISOR_EDGE_URL=edge.url).stdout


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/readyz": (200, "ok")},
        {"/readyz": (200, "[" * 5000)},
        {"/readyz": (200, "[]")},
        {"/readyz": (200, READY)},
        {"/readyz": (200, READY), "/metrics": (500, "")},
    ],
)
def test_something_else_that_answers_is_no_daemon(
    fairvisor: Callable[..., Result], edge: SimpleNamespace, answers: dict[str, tuple[int, str]]
) -> None:
    edge.answers.update(answers)
    result = fairvisor("status", FAIRVISOR_EDGE_URL=edge.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert edge.url in result.stderr


def test_nobody_there(fairvisor: Callable[..., Result]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = fairvisor("status", FAIRVISOR_EDGE_URL=url, http_proxy="http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be reached: Connection refused" in result.stderr
    assert fairvisor("status", "--edge-url=http://name.invalid").exit_code == 2
