import pytest

from daemon.llm.providers import (
    PROVIDERS,
    endpoint,
    family_of,
    model_in_path,
    provider_name,
    split_prefix,
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", "chat"),
        ("/openai/deployments/mine/chat/completions", "chat"),
        ("/v1/responses", "responses"),
        ("/v1/completions", "completions"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/messages", "messages"),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "generate_content"),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", "generate_content"),
        ("/v1beta/models/gemini-2.5-pro%3AgenerateContent", "generate_content"),
        ("/v1/messages/count_tokens", "other"),
        ("/v1/models", "other"),
        ("", "other"),
    ],
)
def test_endpoint_by_path_end(path: str, expected: str) -> None:
    assert endpoint(path) == expected


def test_model_of_a_generate_content_path() -> None:
    assert model_in_path("/v1beta/models/gemini-2.5-pro:generateContent") == "gemini-2.5-pro"
    vertex = "/v1/projects/p/locations/l/publishers/google/models/g-1:streamGenerateContent"
    assert model_in_path(vertex) == "g-1"
    assert model_in_path("/v1beta/models/g%2D1%3AgenerateContent") == "g-1"
    assert model_in_path("/v1beta/models/g-1:countTokens") is None
    assert model_in_path("/v1/chat/completions") is None


def test_provider_is_told_by_wrapper_then_format_then_endpoint() -> None:
    assert provider_name("chat", "groq", "openai") == "groq"
    assert provider_name("messages", "", "openai") == "openai"
    assert provider_name("messages") == "anthropic"
    assert provider_name("generate_content") == "gemini"
    assert provider_name("embeddings") == "openai"
    assert provider_name("other") is None
    assert family_of("other") is None


def test_prefix_is_cut_off() -> None:
    found = split_prefix("/gemini-compat/chat/completions")
    assert found == (PROVIDERS["gemini-compat"], "/chat/completions")
    assert split_prefix("/openai") == (PROVIDERS["openai"], "/")
    for path in ("/unknown/v1", "/", "", "openai/v1", "//openai"):
        assert split_prefix(path) is None


def test_table_is_complete() -> None:
    assert len(PROVIDERS) == 13
    assert PROVIDERS["anthropic"].key_header == "x-api-key"
    assert PROVIDERS["gemini"].key_header == "x-goog-api-key"
    assert PROVIDERS["ollama"].key_header == ""
    assert PROVIDERS["groq"].key_scheme == "Bearer "
    assert PROVIDERS["gemini-compat"].override == "FAIRVISOR_PROVIDER_GEMINI_COMPAT_URL"
