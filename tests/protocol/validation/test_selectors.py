from collections.abc import Callable
from typing import Any

import pytest

from protocol.bundle import Selector

Faults = Callable[[str, object], dict[str, str]]
Warned = Callable[..., dict[str, str]]

PLACE = "policies[0].spec.selector"


@pytest.mark.parametrize(
    ("field", "fragment", "values"),
    [
        ("pathExact", "/", [None, "", "v1", 1, True, [], "\ud800"]),
        ("pathPrefix", "/", [None, "", "v1", 1, True, ["/"]]),
        ("methods", "methods", [None, [], "GET", {}, [1], [None], [""], ["GET", True]]),
        ("hosts", "non-empty", [None, [], "a.com", {}, 1]),
    ],
)
def test_rows_of_the_table(field: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(f"{PLACE}.{field}", value)[f"{PLACE}.{field}"], value


@pytest.mark.parametrize(
    "host",
    [None, 1, True, [], "", ".", "a..b", "*.a.com", "http://a", "a/b", "-a", "a-", "a_b", "[::1]"],
)
def test_each_host_is_checked_at_its_own_place(host: object, faults: Faults) -> None:
    found = faults(f"{PLACE}.hosts", ["a.com", host])
    assert list(found) == [f"{PLACE}.hosts[1]"]
    assert "host" in found[f"{PLACE}.hosts[1]"]


@pytest.mark.parametrize("value", [{}, {"methods": ["GET"]}, {"pathexact": "/"}])
def test_one_anchor_is_needed(value: object, faults: Faults) -> None:
    assert "pathExact or pathPrefix" in faults(PLACE, value)[PLACE]


def test_a_broken_anchor_is_not_called_missing(faults: Faults) -> None:
    assert list(faults(PLACE, {"pathPrefix": "v1"})) == [f"{PLACE}.pathPrefix"]


def test_values(full: dict[str, Any], report: Callable[..., Any]) -> None:
    plain, rich = report(full).bundle.policies
    assert rich.selector == Selector(
        "/v1", "/v1/", frozenset({"GET", "POST"}), frozenset({"api.example.com"})
    )
    assert plain.selector == Selector(path_prefix="/")


def test_what_can_never_match_is_pointed_out(warned: Warned) -> None:
    assert "query" in warned(f"{PLACE}.pathExact", "/v1?x=1")[f"{PLACE}.pathExact"]
    assert '"GET"' in warned(f"{PLACE}.methods", ["get"])[f"{PLACE}.methods"]
