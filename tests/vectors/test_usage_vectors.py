"""Conformance: usage extraction (§11.1)."""

import json
from pathlib import Path
from typing import Any

from daemon.llm.extraction import MAX_PARSEABLE_BODY_BYTES, extract, extract_sse
from protocol.usage import Usage


def test_usage_extraction(vectors_dir: Path) -> None:
    cases = json.loads((vectors_dir / "usage_extraction.json").read_text())["cases"]
    assert cases
    wrong = {
        case["name"]: outcome for case in cases if (outcome := _outcome(case)) != case["expect"]
    }
    assert not wrong


def _outcome(case: dict[str, Any]) -> dict[str, Any]:
    config = case["config"]
    paths = config.get("json_paths", ())
    if "sse" in case:
        found = extract_sse(config["format"], case["sse"].encode(), paths)
    else:
        limit = config.get("max_parseable_body_bytes", MAX_PARSEABLE_BODY_BYTES)
        found = extract(config["format"], case["body"].encode(), paths, limit)
    if not isinstance(found, Usage):
        return {"error": found}
    counts = {
        "prompt_tokens": found.prompt,
        "completion_tokens": found.completion,
        "total_tokens": found.total,
    }
    return {name: counts[name] for name in case["expect"]}
