"""Wrapper and hybrid through the real daemon: providers, credentials, exact budgets (§10)."""

import asyncio
import base64
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.upstreams.llm import Upstream

KEY = "sk-canary:77c0:x"
CALLERS = 64
Serve = Callable[..., Any]


@pytest.fixture(name="upstream")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def token(subject: str) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in ({}, {"sub": subject})]
    return b".".join(part.rstrip(b"=") for part in parts).decode() + ".sig"


def bundle(tpm: int, key: str = "jwt:sub") -> dict[str, Any]:
    rule = {
        "name": "tokens",
        "limit_keys": [key],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": tpm, "default_max_completion": 100},
        "on_missing": "reject",
    }
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    return {"bundle_version": 1, "policies": [{"id": "llm", "spec": spec}]}


def ask(
    daemon: Any,  # noqa: ANN401 - the fixture's
    url: str,
    headers: dict[str, str],
    method: str = "POST",
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "abcd"}]})
    try:
        connection.request(method, url, body if method == "POST" else None, headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


PROVIDERS = [
    ("openai", "/v1/chat/completions", "authorization", f"Bearer {KEY}"),
    ("anthropic", "/v1/messages", "x-api-key", KEY),
    ("gemini", "/v1beta/models/m:generateContent", "x-goog-api-key", KEY),
    ("gemini-compat", "/chat/completions", "authorization", f"Bearer {KEY}"),
    ("ollama", "/v1/chat/completions", "", ""),
]


@pytest.mark.parametrize(("provider", "path", "header", "value"), PROVIDERS)
def test_a_composite_credential(  # noqa: PLR0913 - the columns of the table
    serve: Serve, upstream: Upstream, provider: str, path: str, header: str, value: str
) -> None:
    override = f"provider_{provider.replace('-', '_')}_url"
    daemon = serve(bundle(1000), mode="wrapper", log_level="debug", **{override: upstream.url})
    client = {"Authorization": f"Bearer {token('ann')}:{KEY}", "X-Api-Key": "mine"}
    response, body = ask(daemon, f"/{provider}{path}?a=1", client)
    assert (response.status, b"tok " in body) == (200, True)
    assert response.headers["RateLimit-Limit"] == "1000"
    seen = upstream.seen[0]
    assert seen.target == f"{path}?a=1"
    secret = [(name.lower(), text) for name, text in seen.headers if KEY in text]
    assert secret == ([(header, value)] if header else [])
    assert token("ann") not in str(seen.headers)
    _, metrics = ask(daemon, "/metrics", {}, "GET")
    assert KEY not in f"{response.headers}{metrics!r}{daemon.said()}"


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer onlyajwt", "Bearer :key", "Bearer jwt:", "bearer a:b", "Basic a:b"],
)
def test_half_a_credential_is_none(serve_wrapper: Any, authorization: str) -> None:  # noqa: ANN401
    headers = {"Authorization": authorization} if authorization else {}
    shapes = {
        "openai": lambda e: e["error"]["code"] == "invalid_api_key",
        "anthropic": lambda e: e["error"]["type"] == "authentication_error",
        "gemini": lambda e: e["error"]["status"] == "UNAUTHENTICATED",
    }
    for provider, fits in shapes.items():
        response, body = ask(serve_wrapper, f"/{provider}/v1/x", headers)
        assert (response.status, fits(json.loads(body))) == (401, True)
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.fixture(name="serve_wrapper", scope="module")
def _serve_wrapper(serve_all: Serve) -> Any:  # noqa: ANN401
    return serve_all(bundle(1000), mode="wrapper")


@pytest.mark.parametrize("url", ["/", "/unknown/v1/x", "/openaix", "/v1/decision", "/v1/settle"])
def test_an_unknown_prefix_is_nowhere(serve_wrapper: Any, url: str) -> None:  # noqa: ANN401
    assert ask(serve_wrapper, url, {"Authorization": "Bearer a:b"})[0].status == 404


def test_health_is_answered_here(serve_wrapper: Any) -> None:  # noqa: ANN401
    assert ask(serve_wrapper, "/livez", {}, "GET")[1] == b"ok"


def test_passthrough_has_keys_and_no_claims(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(
        bundle(150, "llm:provider"),
        mode="wrapper",
        wrapper_auth="passthrough",
        provider_openai_url=upstream.url,
        provider_anthropic_url=upstream.url,
    )
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert ask(daemon, "/openai/v1/chat/completions", bearer)[0].status == 200
    assert upstream.seen[0].header("authorization") == f"Bearer {KEY}"
    for headers in (bearer, {"x-api-key": KEY}):
        assert ask(daemon, "/anthropic/v1/messages", headers)[0].status == 200
        assert upstream.seen[-1].header("x-api-key") == KEY
        assert upstream.seen[-1].header("authorization") == ""
    assert ask(daemon, "/anthropic/v1/messages", {})[0].status == 401


def test_hybrid_decides_and_relays(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(bundle(1000), mode="hybrid", provider_openai_url=upstream.url)
    credential = {"Authorization": f"Bearer {token('ann')}:{KEY}"}
    assert ask(daemon, "/openai/v1/chat/completions", credential)[0].status == 200
    bearer = {"Authorization": f"Bearer {token('bob')}", "X-Original-URI": "/v1/chat/completions"}
    response, _ = ask(daemon, "/v1/decision", bearer)
    assert response.status == 200
    reservation = response.headers["X-Fairvisor-Reservation"]
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    connection.request(
        "POST", "/v1/settle", json.dumps({"reservation": reservation, "total_tokens": 5})
    )
    assert connection.getresponse().status == 204
    connection.close()
    assert ask(daemon, "/other", {})[0].status == 404


def test_many_callers_cannot_overdraw_a_budget(serve: Serve, upstream: Upstream) -> None:
    # Each reserves 101 tokens. Gated answers come only after all have asked, so nothing is given
    # back meanwhile; 30 reservations fit into 3030 tokens, and the 51 a second that flow back
    # admit a few more.
    tpm = 3060
    daemon = serve(
        bundle(tpm), mode="wrapper", worker_processes="2", shards="2",
        provider_openai_url=upstream.url,
    )  # fmt: skip
    head = (
        "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Mode: gate\r\n"
        f"Authorization: Bearer {token('ann')}:{KEY}\r\n"
    )
    document = {"stream": True, "messages": [{"role": "user", "content": "abcd"}]}
    body = json.dumps(document).encode()
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def call() -> tuple[int, asyncio.StreamWriter, asyncio.StreamReader]:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(request)
        status = int((await reader.readline()).split()[1])
        return status, writer, reader

    async def all_callers() -> list[int]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = await asyncio.gather(*(call() for _ in range(CALLERS)))
        refilled = (loop.time() - began) * tpm / 60
        admitted = sum(status == 200 for status, _, _ in calls)
        assert tpm // 101 <= admitted <= (tpm + refilled) // 101
        upstream.gate.set()
        for status, _, reader in calls:
            if status == 200:
                await reader.readuntil(b"[DONE]")
        for _, writer, _ in calls:
            writer.close()
            await writer.wait_closed()
        return [status for status, _, _ in calls]

    statuses = asyncio.run(all_callers())
    assert set(statuses) == {200, 429}
    assert len(upstream.seen) == statuses.count(200)


CLIMBING = ["/../admin", "/%2e%2e/admin", "/a/..%2f../admin", "/..;/admin"]


@pytest.mark.parametrize("rest", CLIMBING)
def test_no_path_leads_a_key_out_of_the_upstreams_base_path(
    serve: Serve, upstream: Upstream, rest: str
) -> None:
    base = upstream.url + "/base"
    headers = {"Authorization": f"Bearer {KEY}"}
    daemon = serve(
        bundle(1000, "ip:address"),
        mode="wrapper",
        wrapper_auth="passthrough",
        provider_openai_url=base,
    )
    response, body = ask(daemon, "/openai" + rest, headers)
    assert response.status == 400
    assert json.loads(body)["error"] == "bad_path"
    daemon = serve(bundle(1000, "ip:address"), mode="reverse_proxy", backend_url=base)
    assert ask(daemon, rest, headers)[0].status == 400
    assert not upstream.seen
    assert ask(daemon, "/a/../b", headers)[0].status == 200
    assert upstream.seen[0].target == "/base/a/../b"
