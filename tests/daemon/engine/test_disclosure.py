import pytest

from daemon.engine.disclosure import HASHED, MAX_VALUE_CHARS, names_secret, shown

KEY = b"deployment"


@pytest.mark.parametrize(
    "key",
    [
        "header:authorization",
        "header:cookie",
        "header:x-api-key",
        "header:X-API-Key",
        "header:apikey",
        "header:x-goog-api-key",
        "header:ocp-apim-subscription-key",
        "header:x-auth",
        "header:x-client-secret",
        "header:password",
        "query:key",
        "query:api_key",
        "query:access_token",
        "jwt:session_id",
    ],
)
def test_credentials_are_hashed_by_name(key: str) -> None:
    assert names_secret(key)
    text = shown(key, "value", KEY)
    assert text.startswith(HASHED)
    assert "value" not in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("header:x-user", "u1"),
        ("header:x-monkey", "m"),
        ("jwt:org_id", "org-3fa85f64-5717-4562-b3fc-2c963f66afa6"),
        ("query:page", "2"),
        ("ip:address", "192.0.2.1"),
        ("llm:model", "gpt-4o"),
    ],
)
def test_plain_descriptors_are_shown(key: str, value: str) -> None:
    assert shown(key, value, KEY) == value


@pytest.mark.parametrize(
    "value",
    [
        "Bearer abc",
        "bearer abc",
        "Basic dTpw",
        "eyJhbGciOi.eyJz.sig",
        "sk-live-1",
        "ghp_x",
        "AIzaX",
    ],
)
def test_credentials_are_hashed_by_their_look_wherever_they_are_sent(value: str) -> None:
    for kind in ("header", "query", "jwt"):
        assert shown(f"{kind}:x-user", value, KEY).startswith(HASHED)


def test_equal_credentials_show_equal_and_only_under_one_key() -> None:
    one = shown("header:x-api-key", "k1", KEY)
    assert one == shown("header:x-api-key", "k1", KEY)
    assert one != shown("header:x-api-key", "k2", KEY)
    assert one != shown("header:x-api-key", "k1", b"another deployment")


def test_values_are_cut() -> None:
    assert shown("header:x-user", "u" * 9999, KEY) == "u" * MAX_VALUE_CHARS
    assert len(shown("header:x-api-key", "u" * 9999, KEY)) < 32
