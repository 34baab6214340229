"""Every gateway's page: what a stranger looks for is there, and its commands do what it says."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.catalogue import GATEWAYS
from daemon.cli.main import main
from protocol.bundle_text import load

PAGES = sorted(
    path
    for path in (Path(__file__).parents[2] / "docs/gateways").glob("*.md")
    if path.name != "index.md"
)
SECTIONS = ("Five minutes from zero", "Verify", "Failures", "Latency")
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^\$ (fairvisor gateway .*\n(?:Wrote .*\n)*)", re.MULTILINE)
EXPORT = re.compile(r"^\$ export (\w+)=(\S+)", re.MULTILINE)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def commands() -> list[tuple[str, list[str]]]:
    """Return what is typed on each page, with the lines that are printed after it."""
    found = []
    for page in PAGES:
        for block in CONSOLE.findall(page.read_text()):
            text = block.replace("\\\n", " ")
            for typed in TYPED.findall(text):
                line, *printed = typed.splitlines()
                found.append((page.stem, [line, *printed]))
    return found


@each_page
def test_what_a_stranger_looks_for_is_there(page: Path) -> None:
    headings = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    assert [section for section in SECTIONS if section not in headings] == []
    text = page.read_text()
    assert "curl -si http" in text.partition("\n## Verify\n")[2].partition("\n## ")[0]
    assert "| `closed` |" in text.partition("\n## Failures\n")[2].partition("\n## ")[0]
    latency = text.partition("\n## Latency\n")[2].partition("\n## ")[0]
    assert "python -m bench gateways" in latency


def test_every_gateway_is_typed_on_a_page() -> None:
    typed = {line.split()[2] for _, (line, *_) in commands()}
    assert {gateway.name for gateway in GATEWAYS} - typed == set()


@pytest.mark.parametrize(("page", "lines"), commands(), ids=lambda each: each[0][:60])
def test_the_commands_print_what_the_page_says(page: str, lines: list[str], tmp_path: Path) -> None:
    words = shlex.split(lines[0].partition(">")[0], comments=True)
    folder = next((word for word in words if word.startswith("--write=")), "--write=")
    written = folder.removeprefix("--write=")
    arguments = [f"--write={tmp_path}" if word is folder else word for word in words[1:]]
    text = (Path(__file__).parents[2] / f"docs/gateways/{page}.md").read_text()
    ran = CliRunner().invoke(main, arguments, env=dict(EXPORT.findall(text)))
    assert ran.exit_code == 0, ran.output
    if lines[1:]:
        assert ran.stdout.replace(str(tmp_path), written).splitlines() == lines[1:]


@each_page
def test_bundles_on_the_page_are_valid(page: Path) -> None:
    for block in re.findall(r"^```json\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        report = load(block.encode(), now=0.0)
        assert [*report.errors, *report.warnings] == [], block
