import json

from daemon.llm.errors import reject_body


def test_openai() -> None:
    assert json.loads(reject_body("openai", "tpm_exceeded")) == {
        "error": {
            "message": "request rejected: tpm_exceeded",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    assert json.loads(reject_body("openai", "invalid_token", 401))["error"]["code"] == (
        "invalid_api_key"
    )


def test_anthropic() -> None:
    assert json.loads(reject_body("anthropic", "budget_exhausted")) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "request rejected: budget_exhausted"},
    }
    denied = json.loads(reject_body("anthropic", "invalid_token", 401))
    assert denied["error"]["type"] == "authentication_error"


def test_gemini() -> None:
    assert json.loads(reject_body("gemini", "tpd_exceeded")) == {
        "error": {
            "code": 429,
            "message": "request rejected: tpd_exceeded",
            "status": "RESOURCE_EXHAUSTED",
        }
    }
    denied = json.loads(reject_body("gemini", "invalid_token", 401))["error"]
    assert (denied["code"], denied["status"]) == (401, "UNAUTHENTICATED")


def test_no_bundle_is_no_rate_limit() -> None:
    body = json.loads(reject_body("gemini", "no_bundle_loaded", 503))["error"]
    assert (body["code"], body["status"]) == (503, "UNAVAILABLE")


def test_the_message_says_when() -> None:
    told = json.loads(reject_body("anthropic", "tpm_exceeded", retry_after=3))["error"]["message"]
    assert told == "request rejected: tpm_exceeded; retry after 3 s"
