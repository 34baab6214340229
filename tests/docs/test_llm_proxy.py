"""The SDK snippets of `docs/llm-proxy.md` do what it says, with a budget and without one left."""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams.llm import Upstream

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/llm-proxy.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
POLICY = re.findall(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[0]
HERE = "http://127.0.0.1:8080"
JWT = "e30.eyJzdWIiOiJhbm4ifQ.sig"
SECONDS = 60


@pytest.fixture(name="upstream")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def run(snippet: str, port: int) -> str:
    """Run a snippet at a daemon as its reader would; return what it prints."""
    assert HERE in snippet
    code = snippet.replace(HERE, f"http://127.0.0.1:{port}").replace("CLIENT_JWT", JWT)
    for client in ("OpenAI(", "Anthropic("):
        code = code.replace(f".{client}", f".{client}max_retries=0, ")
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def start(serve: Callable[..., Any], upstream: Upstream, bundle: object) -> int:
    urls = {f"provider_{name}_url": upstream.url for name in ("openai", "anthropic", "gemini")}
    port: int = serve(bundle, mode="wrapper", **urls).port
    return port


def test_there_is_one_for_each_sdk() -> None:
    imports = ["import openai", "import anthropic", "from google import genai", "AzureOpenAI"]
    assert len(SNIPPETS) == len(imports)
    assert all(text in snippet for text, snippet in zip(imports, SNIPPETS, strict=True))


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["openai", "anthropic", "gemini", "azure"])
def test_a_snippet_prints_the_answer(
    serve: Callable[..., Any], upstream: Upstream, snippet: str
) -> None:
    port = start(serve, upstream, POLICY)
    assert run(snippet, port).strip() == "tok tok tok tok tok"
    assert "UPSTREAM_KEY" in str(upstream.seen[0].headers)
    assert JWT not in str(upstream.seen[0].headers)


@pytest.mark.parametrize("snippet", SNIPPETS[:3], ids=["openai", "anthropic", "gemini"])
def test_a_snippet_prints_the_refusal(
    serve: Callable[..., Any], upstream: Upstream, snippet: str
) -> None:
    bundle = json.loads(POLICY)
    config = bundle["policies"][0]["spec"]["rules"][0]["algorithm_config"]
    config |= {"tokens_per_minute": 600, "default_max_completion": 550}
    # Whatever the snippet reserves, less than that is left once 10,000 tokens are spent.
    port = start(serve, upstream, bundle)
    spend = {"X-Tokens": "10000"}
    body = json.dumps({"model": "m", "max_tokens": 500, "messages": []}).encode()
    _post(port, "/openai/v1/chat/completions", body, spend)
    printed = run(snippet, port)
    found = re.search(r"request rejected: tpm_exceeded; retry after (\d+) s.* - wait \1 s", printed)
    assert found, printed
    assert len(upstream.seen) == 1


def _post(port: int, path: str, body: bytes, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body, {"Authorization": f"Bearer {JWT}:key", **headers})
    assert connection.getresponse().status == 200
    connection.close()
