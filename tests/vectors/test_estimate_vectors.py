"""Conformance: prompt estimates and requested maxima (§5.6)."""

import json
from pathlib import Path
from typing import Any

from daemon.llm.estimate import prompt_tokens
from daemon.llm.request import read


def test_estimates(vectors_dir: Path) -> None:
    cases = json.loads((vectors_dir / "token_bucket_llm.json").read_text())["cases"]
    cases = [case for case in cases if case.get("kind") == "estimate"]
    assert cases
    wrong = {
        case["name"]: outcome
        for case in cases
        if not case["expect"].items() <= (outcome := _outcome(case)).items()
    }
    assert not wrong


def _outcome(case: dict[str, Any]) -> dict[str, Any]:
    sent = case["request"]
    body = sent.get("body", b"")
    raw = (
        body
        if isinstance(body, bytes)
        else (body.encode() if isinstance(body, str) else json.dumps(body).encode())
    )
    request = read(raw, sent["path"])
    headers = {name.lower(): value for name, value in sent.get("headers", {}).items()}
    # An absent peer is a Unix socket, which is trusted (§4.2); the cases name no other trusted one.
    hint = headers.get("x-token-estimate") if "ip" not in sent else None
    estimator = case["config"].get("token_source", {}).get("estimator", "simple_word")
    return {
        "prompt_tokens": prompt_tokens(estimator, request, hint.encode() if hint else None),
        "max_tokens": request.maximum,
    }
