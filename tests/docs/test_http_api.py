import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "examples/http-api/policy.json"

SESSIONS = {"debug_session_secret": "open-sesame"}
CHANGING = (
    (r"(?<=^Retry-After: )\d+$", "N"),
    (r"(?<=^RateLimit-Reset: )\d+$", "N"),
    (r"(?<=;t=)\d+", "N"),
    (r"(?<=;w=)(2419200|2505600|2592000|2678400)$", "MONTH"),
    (r"(?<=^X-Fairvisor-Reservation: ).*$", "ID"),
    (r"(?<=\"last_config_update\":\")[^\"]*", "TIME"),
    (r"(?<=^X-Fairvisor-Debug-Latency-Us: )\d+$", "N"),
    (r"(?<=-Value: hashed:)[0-9a-f]+$", "DIGEST"),
)
"""What differs from run to run: times, ids, spread waits."""


def steady(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text.rstrip()


def test_every_command_prints_what_the_document_says(
    serve: Callable[..., Any], run_document: Callable[..., Any]
) -> None:
    daemon = serve(POLICY.read_text(), shards=2, **SESSIONS)
    where = {"127.0.0.1:8080": f"127.0.0.1:{daemon.port}"}
    for step in run_document("http-api.md", replace=where):
        assert step.expected is not None, step.command
        assert steady(step.printed) == steady(step.expected), step.command
