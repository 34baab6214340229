"""Debug sessions explain proxied answers, and stay between the client and the daemon (§9.3)."""

from collections.abc import Callable
from typing import Any

from tests.upstreams.faulty import Faulty

SECRET = "canary-debug-secret"  # noqa: S105 - a test's
BUNDLE = {
    "bundle_version": 1,
    "policies": [{
        "id": "team",
        "spec": {
            "selector": {"pathPrefix": "/"},
            "rules": [{
                "name": "tokens",
                "limit_keys": ["header:x-team"],
                "algorithm": "token_bucket_llm",
                "algorithm_config": {"tokens_per_minute": 1, "burst_tokens": 1000},
            }],
        },
    }],
}  # fmt: skip


def test_proxied_answers_and_refusals(serve: Callable[..., Any]) -> None:
    with Faulty() as upstream:
        daemon = serve(
            BUNDLE, mode="reverse_proxy", llm_format="openai", backend_url=upstream.url,
            debug_session_secret=SECRET,
        )  # fmt: skip
        with daemon.connect() as client:
            headers = {"X-Fairvisor-Debug-Secret": SECRET}
            answer = client.request("/v1/debug/session", headers, "POST")
            assert answer.status == 204
            session = answer.headers["set-cookie"].partition(";")[0]
            seen = {"Cookie": f"a=b; {session}; c=d", "X-Team": "red"}
            body = b'{"messages": [], "max_tokens": 900}'
            allowed = client.request("/v1/chat/completions", seen, "POST", body)
            alone = client.request("/v1/models", {"Cookie": session})
            refused = client.request("/v1/chat/completions", {**seen, "X-Plan": "bare"}, "POST",
                                     b'{"messages": [], "max_tokens": 1001}')  # fmt: skip
            plain = client.request("/v1/models", {"Cookie": "fv_dbg=1.forged"})
    assert [each.status for each in (allowed, alone, refused, plain)] == [200, 200, 429, 200]
    for answer in (allowed, refused):
        fields = answer.headers
        assert fields["x-fairvisor-debug-policy"] == "team"  # and not the upstream's "forged"
        assert fields["x-fairvisor-debug-rule"] == "tokens"
        assert fields["x-fairvisor-debug-descriptor-1-key"] == "header:x-team"
        assert fields["x-fairvisor-debug-descriptor-1-value"] == "red"
        assert int(fields["x-fairvisor-latency-us"]) >= 0
    assert refused.headers["x-fairvisor-debug-reason"] == "tpm_exceeded"
    assert "x-fairvisor-debug-decision" not in plain.headers
    assert "\r\nCookie: a=b; c=d\r\n" in upstream.heads[0]
    assert not any("fv_dbg" in head or SECRET in head for head in upstream.heads)
