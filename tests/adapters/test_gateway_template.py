"""Filling in templates, and that every shipped one can be filled in."""

import tomllib
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.catalogue import GATEWAYS, Gateway
from adapters.template import fill
from daemon.cli.main import main

ROOT = Path(__file__).parents[2]


def test_values_are_put_in_and_other_at_signs_are_left() -> None:
    text = "listen @port@; # a@b.example @fallback location @down {"
    expected = "listen 80; # a@b.example @fallback location @down {"
    assert fill(text, {"port": "80", "unused": "x"}, set()) == expected


def test_a_line_stays_if_its_word_holds() -> None:
    text = "a\n  @if open@ pass @x@;\n  @if closed@ stop;\nb\n"
    assert fill(text, {"x": "1"}, {"open"}) == "a\n  pass 1;\nb\n"
    assert fill(text, {}, {"closed"}) == "a\n  stop;\nb\n"
    assert fill(text, {}, set()) == "a\nb\n"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="nobody"):
        fill("@nobody@", {}, set())


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda each: each.name)
def test_every_shipped_template_can_be_filled_in(gateway: Gateway) -> None:
    ways = ["127.0.0.1:8080", *(["unix:/run/fairvisor.sock"] if gateway.unix else [])]
    printed = set()
    for way, failure in product(ways, gateway.on_failure):
        ran = CliRunner().invoke(
            main, ["gateway", gateway.name, f"--daemon={way}", f"--on-failure={failure}"]
        )
        assert ran.exit_code == 0, ran.output
        assert "@if" not in ran.stdout
        assert way.removeprefix("unix:").rpartition(":")[2] in ran.stdout
        printed.add(ran.stdout)
    assert len(printed) == len(ways) * len(gateway.on_failure)  # every choice changes something


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda each: each.name)
def test_every_gateway_has_its_files_its_readme_and_its_page(gateway: Gateway) -> None:
    folder = ROOT / "adapters" / gateway.folder
    for name in (gateway.template, *gateway.companions, "README.md"):
        assert (folder / name).is_file(), name
    pages = [path.read_text() for path in (ROOT / "docs/gateways").glob("*.md")]
    assert any(f"fairvisor gateway {gateway.name}" in page for page in pages)


def test_the_files_are_part_of_the_package() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = data["package-data"]
    for gateway in GATEWAYS:
        patterns = shipped["*"] + shipped.get(f"adapters.{gateway.folder}", [])
        assert (ROOT / "adapters" / gateway.folder / "__init__.py").is_file()
        for name in (gateway.template, *gateway.companions):
            # Modules are part of their package without being named.
            assert any(Path(name).match(pattern) for pattern in (*patterns, "*.py")), name
