"""Write what the docs show but nobody should type: outcomes, policies, tables.

`scripts/docs` runs it. In the policy guide, a line `<!-- policy: FOLDER -->` or
`<!-- outcome: FOLDER -->` stands above a fenced block; the block is filled with the folder's
`policy.json`, or with what `fairvisor test` makes of its `requests.json`. `docs/reference.md` and
`docs/settings.md` are written whole. Tests compare the committed files with what this would write.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from daemon.cli.main import main as fairvisor  # noqa: E402 - a script finds the clone first
from daemon.settings_reference import text as settings_text  # noqa: E402 - as above
from protocol.reference import text as reference_text  # noqa: E402 - as above

GUIDE = ROOT / "docs/policy-guide.md"
BLOCK = re.compile(
    r"<!-- (?P<kind>policy|outcome): (?P<folder>[a-z0-9/-]+) -->\n```(?P<lang>\w*)\n.*?^```$",
    re.MULTILINE | re.DOTALL,
)
_WIDEST = 62
"""A longer line is told apart into what all requests share and what differs."""

Entry = Mapping[str, Any]


def documents() -> dict[Path, str]:
    """Return every written file and what belongs into it."""
    return {
        ROOT / "docs/reference.md": reference_text(),
        ROOT / "docs/settings.md": settings_text(),
        GUIDE: BLOCK.sub(_filled, GUIDE.read_text()),
    }


def _filled(block: re.Match[str]) -> str:
    folder = ROOT / block["folder"]
    body = (folder / "policy.json").read_text() if block["kind"] == "policy" else outcome(folder)
    marker = f"<!-- {block['kind']}: {block['folder']} -->"
    return f"{marker}\n```{block['lang']}\n{body.rstrip()}\n```"


def outcome(folder: Path) -> str:
    """Return what an example's requests come to, one line each."""
    entries = json.loads((folder / "requests.json").read_text())
    items = results(folder)
    asked = [parts(entry) for entry in entries]
    common: list[str] = []
    if max(len(", ".join(each)) for each in asked) > _WIDEST:
        requests = [each for each in asked if not each[0].startswith("settle")]
        common = [part for part in requests[0] if all(part in each for each in requests)]
    whats = [", ".join(part for part in each if part not in common) or "-" for each in asked]
    clock = 0.0
    times = []
    for item in items:
        clock = item.get("at", clock)
        times.append(f"+{clock - items[0]['at']:g} s")
    wide, wider = max(map(len, times)), max(map(len, whats))
    lines = [
        f"{number:>2}. {time:<{wide}}  {what:<{wider}}  {answer(item)}"
        for number, (time, what, item) in enumerate(zip(times, whats, items, strict=True), 1)
    ]
    return "\n".join([f"    all: {', '.join(common)}"] * bool(common) + lines)


def results(folder: Path) -> list[dict[str, Any]]:
    """Return the results of `fairvisor test --format json` for an example."""
    command = ["test", str(folder / "policy.json"), "--requests", str(folder / "requests.json")]
    ran = CliRunner().invoke(fairvisor, [*command, "--format", "json"], catch_exceptions=False)
    if ran.exit_code:
        raise ValueError(f"{folder}: {ran.output}")
    found: list[dict[str, Any]] = json.loads(ran.stdout)["results"]
    return found


def parts(entry: Entry) -> list[str]:
    """Return what tells an entry of a requests file from others."""
    if "settle" in entry:
        settle, usage = entry["settle"], entry["settle"]["usage"]
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        return [f"settle {settle['index'] + 1}.: prompt {prompt}, completion {completion}"]
    found = [f"{entry.get('method', 'GET')} {entry['path']}"]
    found += [f"host {entry['host']}"] if "host" in entry else []
    found += [f"from {entry['ip']}"] if "ip" in entry else []
    for name, value in entry.get("headers", {}).items():
        shown = f"{value[:10]}…{value[-4:]}" if name == "Authorization" else value
        found.append(f"{name}: {shown}")
    body = entry.get("body") or {}
    return found + [f"{name} {body[name]}" for name in ("model", "max_tokens", "q") if name in body]


def answer(item: Entry) -> str:
    """Return a result in words."""
    if "settled" in item:
        back, more = item["refunded"], item["overrun"]
        return f"{more:g} more" if more else f"{back:g} given back"
    found = [f"{item['status']} {item['reason']}"]
    if item["policy_id"]:
        found.append(item["policy_id"] + (f"/{item['rule_name']}" if item["rule_name"] else ""))
    if item["delay_ms"]:
        found.append(f"after {item['delay_ms']} ms")
    if item["action"] != "reject":
        if item["reserved"] is not None:
            found.append(f"{item['reserved']} reserved")
        if item["limit"] is not None:
            found.append(f"{item['remaining']:g} of {item['limit']:g} left")
    if item["retry_after_base"]:
        found.append(f"retry in {item['retry_after_base']} s")
    if item["would_reject"]:
        found.append(f"shadow would reject: {item['original_reason']}")
    return ", ".join(found)


if __name__ == "__main__":
    for path, content in documents().items():
        path.write_text(content)
