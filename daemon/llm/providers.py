"""LLM providers and what a path says about a call (behaviour §4.3 `llm:*`, §10.4).

Paths come without their query and are read in normal form, as upstreams read them: a limit must not
be dodged by spelling `:` as `%3A`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from protocol.paths import normal_form

Family = Literal["openai", "anthropic", "gemini"]
Endpoint = Literal[
    "chat", "responses", "completions", "embeddings", "messages", "generate_content", "other"
]


@dataclass(frozen=True, slots=True)
class Provider:
    """One upstream of wrapper mode.

    `key_header` is the header (lower case) that carries the upstream key and `key_scheme` what
    stands before the key in it; an empty header means that no key is sent. `usage_option` says
    whether the provider takes `stream_options`; the others report usage in streams unasked and
    refuse the field.
    """

    name: str
    base_url: str
    key_header: str
    key_scheme: str
    family: Family
    usage_option: bool = True

    @property
    def override(self) -> str:
        """The environment variable that replaces the base URL (§14)."""
        return f"FAIRVISOR_PROVIDER_{self.name.upper().replace('-', '_')}_URL"


def _bearer(name: str, base_url: str, *, usage_option: bool = True) -> Provider:
    return Provider(name, base_url, "authorization", "Bearer ", "openai", usage_option)


_GOOGLE = "https://generativelanguage.googleapis.com"

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        _bearer("openai", "https://api.openai.com"),
        Provider("anthropic", "https://api.anthropic.com", "x-api-key", "", "anthropic"),
        Provider("gemini", _GOOGLE, "x-goog-api-key", "", "gemini"),
        _bearer("gemini-compat", f"{_GOOGLE}/v1beta/openai"),
        _bearer("grok", "https://api.x.ai"),
        _bearer("groq", "https://api.groq.com/openai"),
        _bearer("mistral", "https://api.mistral.ai", usage_option=False),
        _bearer("deepseek", "https://api.deepseek.com"),
        _bearer("perplexity", "https://api.perplexity.ai", usage_option=False),
        _bearer("together", "https://api.together.xyz"),
        _bearer("fireworks", "https://api.fireworks.ai/inference"),
        _bearer("cerebras", "https://api.cerebras.ai"),
        Provider("ollama", "http://localhost:11434", "", "", "openai"),
    )
}

_ENDPOINTS: tuple[tuple[str, Endpoint], ...] = (
    ("/chat/completions", "chat"),
    ("/responses", "responses"),
    ("/completions", "completions"),
    ("/embeddings", "embeddings"),
    ("/messages", "messages"),
    (":generateContent", "generate_content"),
    (":streamGenerateContent", "generate_content"),
)
_FAMILY_OF: dict[Endpoint, Family] = {
    "chat": "openai",
    "responses": "openai",
    "completions": "openai",
    "embeddings": "openai",
    "messages": "anthropic",
    "generate_content": "gemini",
}
_MODEL = re.compile(r"/models/([^/:]+):(?:generateContent|streamGenerateContent)$")


def split_prefix(path: str) -> tuple[Provider, str] | None:
    """Split `/<provider>/rest` into the provider and `/rest`; None for an unknown prefix."""
    name, slash, rest = path[1:].partition("/")
    provider = PROVIDERS.get(name) if path.startswith("/") else None
    return (provider, slash + rest or "/") if provider else None


def endpoint(path: str) -> Endpoint:
    """Return the value of `llm:endpoint`: what the end of the path asks for."""
    plain = normal_form(path)
    for suffix, name in _ENDPOINTS:
        if plain.endswith(suffix):
            return name
    return "other"


def family_of(kind: Endpoint) -> Family | None:
    """Return the wire format that an endpoint belongs to; None for `other`."""
    return _FAMILY_OF.get(kind)


def provider_name(kind: Endpoint, wrapper: str = "", llm_format: str = "") -> str | None:
    """Return the value of `llm:provider`; None when it is missing.

    `wrapper` is the provider of wrapper mode, `llm_format` the value of `FAIRVISOR_LLM_FORMAT`.
    """
    return wrapper or llm_format or _FAMILY_OF.get(kind)


def model_in_path(path: str) -> str | None:
    """Return the model of a generate-content path; None for any other path."""
    found = _MODEL.search(normal_form(path))
    return found[1] if found else None
