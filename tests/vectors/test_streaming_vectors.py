"""Conformance: mid-stream cut-off of OpenAI chat streams (§11.3)."""

import json
from pathlib import Path
from typing import Any

from daemon.llm.cut import Cut
from daemon.llm.meter import StreamMeter
from protocol.bundle import Streaming


def test_streaming(vectors_dir: Path) -> None:
    cases = json.loads((vectors_dir / "streaming.json").read_text())["cases"]
    assert cases
    wrong = {
        case["name"]: outcome
        for case in cases
        if not case["expect"].items() <= (outcome := _outcome(case)).items()
    }
    assert not wrong


def _outcome(case: dict[str, Any]) -> dict[str, Any]:
    config = case["config"]
    cut = Cut(config["max_completion_tokens"], Streaming(**config.get("streaming", {})))
    shadow = case.get("shadow", False)
    meter = StreamMeter(
        "openai",
        prompt_tokens=case["prompt_tokens"],
        cut=None if shadow else cut,
        shadow=cut if shadow else None,
    )
    output = b"".join(meter.feed(chunk.encode()) for chunk in case["chunks"]) + meter.end()
    return {
        "truncated": meter.truncated,
        "would_truncate": meter.would_truncate,
        "completion_tokens": meter.counted,
        "actual_total": meter.usage().total,
        "output": output.decode(),
    }
