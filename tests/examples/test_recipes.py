"""Every recipe's README, run: the commands it shows print what it says they print."""

import re
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.examples.place import ROOT, Place

RECIPES = sorted(path.parent.name for path in (ROOT / "examples/recipes").glob("*/README.md"))
FENCE = re.compile(r"^```(?P<lang>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
READY = ("offline LLM provider on", "fairvisor: INFO: ready on")
SECRET = "replace-me-with-32-random-bytes-or-more"  # noqa: S105 - the examples' own
VARYING = {
    "runaway-agent-guard": (
        (r"(?<=loop_detected )\d+", 60, 90),  # Retry-After is spread by who asks
        (r"(?<=retry after )\d+(?= s)", 1, 2),
        (r'(?<=completion_tokens": )\d+', 220, 2000),  # what was under way at the cut
    ),
}
"""Numbers that differ from run to run, and between what."""


def readme(name: str) -> str:
    return (ROOT / "examples/recipes" / name / "README.md").read_text()


def steady(name: str, text: str) -> str:
    """Return what was printed with its varying numbers checked and made equal."""
    for pattern, low, high in VARYING.get(name, ()):
        assert all(low <= int(found) <= high for found in re.findall(pattern, text)), text
        text = re.sub(pattern, "N", text)
    return text


def test_the_recipes_are_there() -> None:
    assert {"team-budgets", "runaway-agent-guard", "circuit-breaker"} < set(RECIPES)
    index = (ROOT / "examples/recipes/README.md").read_text()
    assert set(re.findall(r"\(([\w-]+)/README\.md\)", index)) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_its_commands_print_what_it_says(name: str, place: Place) -> None:
    blocks = [(found["lang"], found["body"]) for found in FENCE.finditer(readme(name))]
    assert [lang for lang, _ in blocks] == ["sh", "sh", "sh", "text"]
    for (_, command), ready in zip(blocks, READY, strict=False):
        place.terminal(command, ready)
    printed = place.run(blocks[2][1])
    assert steady(name, printed) == steady(name, blocks[3][1])


def test_a_tripped_breaker_is_told(place: Place) -> None:
    commands = [found["body"] for found in FENCE.finditer(readme("circuit-breaker"))]
    place.terminal(commands[0], READY[0])
    daemon = place.terminal(commands[1], READY[1])
    place.run(commands[2])
    daemon.until('"event":"circuit_breaker_tripped"')
    assert '"scope":"header:x-team=search"' in daemon.said()


def test_the_providers_key_is_nowhere_but_at_the_provider(
    place: Place, connect: Callable[[int], Any]
) -> None:
    commands = [found["body"] for found in FENCE.finditer(readme("hidden-provider-keys"))]
    place.terminal(commands[0], READY[0])
    daemon = place.terminal(commands[1], READY[1])
    printed = place.run(commands[2])
    assert printed.count("sk-provider-key") == 1  # the ledger's line
    with connect(place.port) as connection:
        metrics = connection.request("/metrics").body.decode()
    assert "fairvisor_decisions_total" in metrics
    assert "sk-provider-key" not in metrics + daemon.said()


def test_the_tokens_are_signed_as_the_policies_say() -> None:
    claims = {
        path.name: jwt.decode(path.read_text().strip(), SECRET, algorithms=["HS256"])
        for path in (ROOT / "examples/recipes").rglob("*.jwt")
        if path.name != "forged.jwt"
    }
    assert claims == {
        "ads.jwt": {"sub": "ads-service", "team": "ads"},
        "search.jwt": {"sub": "search-service", "team": "search"},
        "alice.jwt": {"sub": "alice"},
    }
