"""One request per policy, made from its selector and rules: a first look without a recording."""

from collections.abc import Iterator, Mapping
from typing import Any

from protocol.bundle import Bundle, LlmBudget, Policy, Rule

_PLACEHOLDERS: Mapping[str, str] = {
    "ip:address": "192.0.2.1",
    "ip:country": "NZ",
    "ip:asn": "64496",
    "ip:type": "isp",
    "ip:tor": "false",
    "ua:bot": "true",
    "ua:bot_category": "ai_crawler",
    "llm:model": "gpt-4o-mini",
}
_HEADERS: Mapping[str, str] = {
    "ip:address": "X-Forwarded-For",
    "ip:country": "X-Country-Code",
    "ip:asn": "X-ASN",
    "ip:type": "X-ASN-Type",
    "ip:tor": "X-Tor-Exit",
}
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_BOTS: Mapping[str, str] = {
    "search_engine": "Googlebot/2.1",
    "ai_crawler": "GPTBot/1.2",
    "ai_assistant_user": "ChatGPT-User/1.0",
    "social_preview": "Twitterbot/1.0",
    "monitoring_uptime": "UptimeRobot/2.0",
    "seo_research": "AhrefsBot/7.0",
    "archiver": "archive.org_bot",
    "other_bot": "Amazonbot/0.1",
}


def samples(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Yield one entry of a requests file per policy, in evaluation order.

    Every limit key of its rules has a value. Where the `match` blocks of two rules exclude each
    other, the earlier rule applies.
    """
    for policy in bundle.policies:
        yield _sample(policy)


def _sample(policy: Policy) -> dict[str, Any]:
    selector = policy.selector
    rules = [*policy.rules, *([policy.fallback_limit] if policy.fallback_limit else [])]
    values = _descriptors(rules)
    body = any(isinstance(rule.algorithm, LlmBudget) for rule in rules) or "llm:model" in values
    method = "POST" if body else "GET"
    if selector.methods and method not in selector.methods:
        method = min(selector.methods)
    request: dict[str, Any] = {
        "method": method,
        "path": selector.path_exact or f"{selector.path_prefix}example",
    }
    if selector.hosts:
        request["host"] = min(selector.hosts)
    headers = dict(_headers(values))
    if headers:
        request["headers"] = headers
    for kind in ("query", "jwt"):
        named = {
            key.removeprefix(f"{kind}:"): value
            for key, value in values.items()
            if key.startswith(f"{kind}:")
        }
        if named:
            request[kind] = named
    if body:
        request["body"] = {
            "model": values.get("llm:model", _PLACEHOLDERS["llm:model"]),
            "messages": [{"role": "user", "content": "Hello"}],
        }
    return request


def _headers(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the headers from which the wanted descriptors will be read (§4.3)."""
    for key, value in values.items():
        if key.startswith("header:"):
            yield key.removeprefix("header:"), value
        elif key in _HEADERS:
            yield _HEADERS[key], value
    if "ua:bot_category" in values:
        yield "User-Agent", _BOTS.get(values["ua:bot_category"], _BROWSER)
    elif "ua:bot" in values:
        yield "User-Agent", _BOTS["ai_crawler"] if values["ua:bot"] == "true" else _BROWSER


def _descriptors(rules: list[Rule]) -> dict[str, str]:
    values: dict[str, str] = {}
    for rule in rules:
        for key, text in rule.match:
            values.setdefault(key, text)
    for rule in rules:
        for key in rule.limit_keys:
            values.setdefault(key, _PLACEHOLDERS.get(key, f"example-{key.partition(':')[2]}"))
    return values
