"""Start what is compared as a proxy: nginx, the daemon, LiteLLM; and the upstream behind them."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.scenarios import GATE, PLENTY, Json, bundle, policy
from bench.servers import (
    Server,
    await_listening,
    await_ready,
    fairvisor,
    free_port,
    nginx,
    running,
)

ROOT = Path(__file__).parents[1]
MODEL = "gpt-4o-mini"
FREE, BUDGET, EXACT = "/free", "/v1", "/exact"
"""Path prefixes: no policy, a token budget, a token budget counted with the model's vocabulary."""
CHAT = "/v1/chat/completions"

_UPSTREAM = (
    "upstream llm {{ server 127.0.0.1:{port}; keepalive 1024; keepalive_requests 1000000000; }}"
)
_PROXY = (
    "proxy_pass http://llm; proxy_http_version 1.1; proxy_set_header Connection ''; "
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_buffering {buffering};"
)


def body(*, stream: bool) -> str:
    """Return a chat request of an ordinary size."""
    system = (
        "You are a support assistant. Answer from the articles that you are given, name the "
        "article, and say so when they do not hold the answer. Be brief and friendly."
    )
    question = "How do I change the billing address of my team, and who is told about it? " * 2
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    document: Json = {"model": MODEL, "messages": messages, "max_tokens": 500}
    if stream:
        document["stream"] = True
    return json.dumps(document, separators=(",", ":"))


def budgets() -> Json:
    """Return the bundle: token budgets by path, nothing on any other."""

    def budget(name: str, **config: object) -> Json:
        return {
            "name": name,
            "limit_keys": ["ip:address"],
            "algorithm": "token_bucket_llm",
            "algorithm_config": {
                "tokens_per_minute": PLENTY,
                "max_completion_tokens": 100_000,
                "streaming": {"enabled": True, "buffer_tokens": 20},
                **config,
            },
        }

    return bundle(
        policy("budget", {"pathPrefix": BUDGET}, [budget("tokens")]),
        policy(
            "exact",
            {"pathPrefix": EXACT},
            [budget("tokens", token_source={"estimator": "tokenizer"})],
        ),
        GATE,
    )


@contextlib.contextmanager
def answering(folder: Path, answer: bytes) -> Iterator[int]:
    """Run the cheapest upstream: an nginx that gives one answer; yield its port."""
    text = answer.decode().replace("\\", "\\\\").replace("'", "\\'")
    location = f"default_type application/json; return 200 '{text}';"
    with nginx(folder, location=location) as server:
        yield server.port


@contextlib.contextmanager
def streaming(folder: Path, tokens: int, pace: float) -> Iterator[int]:
    """Run an upstream that streams; yield its port."""
    folder.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "bench.canned_llm", str(port), str(tokens), str(pace)]
    with running(command, folder, {**os.environ, "PYTHONPATH": str(ROOT)}) as pid:
        await_listening(Server("upstream", pid, port), folder)
        yield port


@contextlib.contextmanager
def nginx_proxy(folder: Path, upstream: int, *, buffering: bool) -> Iterator[Server]:
    """Run nginx as a proxy with kept upstream connections."""
    location = _PROXY.format(buffering="on" if buffering else "off")
    with nginx(folder, location=location, http=_UPSTREAM.format(port=upstream)) as server:
        yield server


@contextlib.contextmanager
def daemon_proxy(folder: Path, upstream: int, command: str | None) -> Iterator[Server]:
    """Run the daemon as a reverse proxy."""
    settings = {
        "FAIRVISOR_MODE": "reverse_proxy",
        "FAIRVISOR_LLM_FORMAT": "openai",
        "FAIRVISOR_BACKEND_URL": f"http://127.0.0.1:{upstream}",
    }
    with fairvisor(folder, budgets(), settings, command) as server:
        yield server


@contextlib.contextmanager
def litellm(folder: Path, upstream: int, environment: Path) -> Iterator[Server]:
    """Run LiteLLM's proxy of one worker, from a virtual environment that has `litellm[proxy]`."""
    folder.mkdir()
    port = free_port()
    model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1"}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": {**model, "api_key": "none"}}]}
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    settings = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        # Without a key it checks none: the least that it can do.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    command = [str(environment / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    with running(command, folder, settings) as pid:
        server = Server("litellm", pid, port)
        await_ready(server, "/health/liveliness", folder, seconds=300.0)
        yield server
