"""`spec.selector`: which requests a policy sees (§3)."""

from protocol.bundle import Selector
from protocol.hosts import normalise_host, valid_host
from protocol.validation.fields import Fields, is_text
from protocol.validation.report import item
from protocol.validation.wording import show

_PATH_WORDS = 'a string that starts with "/"'


def read_selector(selector: Fields) -> Selector:
    """Read the selector of a policy."""
    exact = read_path(selector, "pathExact")
    prefix = read_path(selector, "pathPrefix")
    if not selector.has("pathExact") and not selector.has("pathPrefix"):
        selector.findings.error(
            selector.path,
            "a selector needs pathExact or pathPrefix (or both); "
            'use "pathPrefix": "/" for every path',
        )
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    methods, hosts = _methods(selector), _hosts(selector)
    selector.close()
    return Selector(exact, prefix, methods, hosts)


def read_path(fields: Fields, name: str) -> str | None:
    """Take an optional path; warn if it holds what a path never does."""
    if not fields.has(name):
        return None
    value = fields.raw(name)
    if not is_text(value) or not value.startswith("/"):
        fields.demand(name, _PATH_WORDS)
        return None
    if "?" in value:
        fields.warning(
            name, f"{name} contains `?`, but the query is not part of the path: it cannot match"
        )
    return value


def _methods(selector: Fields) -> frozenset[str] | None:
    words = "a non-empty array of strings"
    values = selector.array("methods", words, required=False, filled=True)
    methods = [each for each in values if is_text(each)]
    if len(methods) < len(values):
        wrong = next(each for each in values if not is_text(each))
        selector.error("methods", f"methods must be {words}; {show(wrong)} is not a method")
    for method in methods:
        if method != method.upper():
            selector.warning(
                "methods",
                f"methods are case-sensitive: {show(method)} does not match requests with "
                f"{show(method.upper())}; did you mean that?",
            )
    return frozenset(methods) or None


def _hosts(selector: Fields) -> frozenset[str] | None:
    values = selector.array("hosts", "a non-empty array of host names", required=False, filled=True)
    hosts = set()
    for index, value in enumerate(values):
        host = normalise_host(value) if isinstance(value, str) else ""
        if valid_host(host):
            hosts.add(host)
            continue
        selector.findings.error(
            item(selector.at("hosts"), index),
            "a host must be a plain name such as `api.example.com` (letters, digits, `.`, `-`); "
            f"got {show(value)}{_advice(value)}",
        )
    return frozenset(hosts) or None


def _advice(value: object) -> str:
    if not isinstance(value, str):
        return ""
    if "*" in value:
        return ": wildcards are not supported, list each host"
    if "://" in value:
        return ": leave the scheme out"
    return ": leave the path out" if "/" in value else ""
