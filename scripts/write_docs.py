"""Write what the docs show but nobody should type: outcomes, policies, tables.

`scripts/docs` runs it. In the policy guide, a line `<!-- policy: FOLDER -->` or
`<!-- outcome: FOLDER -->` stands above a fenced block; the block is filled with the folder's
`policy.json`, or with what its `requests.json` comes to. `docs/reference.md` and
`docs/settings.md` are written whole. Tests compare the committed files with what this would write.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from daemon.engine.sources import Sources  # noqa: E402 - a script finds the clone first
from daemon.llm.usage import of_counts  # noqa: E402
from daemon.replay import DEFAULT_SHARDS, Replay, request_of  # noqa: E402
from daemon.settings_reference import text as settings_text  # noqa: E402
from protocol.bundle import MICRO  # noqa: E402
from protocol.bundle_text import load  # noqa: E402
from protocol.decision import Decision  # noqa: E402
from protocol.reference import text as reference_text  # noqa: E402

GUIDE = ROOT / "docs/policy-guide.md"
_BLOCK = re.compile(
    r"<!-- (?P<kind>policy|outcome): (?P<folder>[a-z0-9/-]+) -->\n```(?P<lang>\w*)\n.*?^```$",
    re.MULTILINE | re.DOTALL,
)
_WIDEST = 62


def guide(text: str) -> str:
    """Return the guide with its marked blocks filled."""
    return _BLOCK.sub(_filled, text)


def _filled(block: re.Match[str]) -> str:
    folder = ROOT / block["folder"]
    body = (folder / "policy.json").read_text() if block["kind"] == "policy" else outcome(folder)
    marker = f"<!-- {block['kind']}: {block['folder']} -->"
    return f"{marker}\n```{block['lang']}\n{body.rstrip()}\n```"


def outcome(folder: Path) -> str:
    """Return what an example's requests come to, one line each."""
    rows = [(at, parts, answer) for at, parts, answer in play(folder)]
    start = rows[0][0]
    head = []
    if max(len(", ".join(parts)) for _, parts, _ in rows) > _WIDEST:
        asked = [parts for _, parts, _ in rows if not parts[0].startswith("settle")]
        common = [part for part in asked[0] if all(part in parts for parts in asked)]
        head = [f"each: {', '.join(common)}"] if common else []
        rows = [
            (at, [part for part in parts if part not in common] or ["-"], answer)
            for at, parts, answer in rows
        ]
    times = [f"+{at - start:g} s" for at, _, _ in rows]
    whats = [", ".join(parts) for _, parts, _ in rows]
    wide, wider = max(map(len, times)), max(map(len, whats))
    lines = [
        f"{number:>2}  {time:<{wide}}  {what:<{wider}}  {answer}"
        for number, (time, what, (_, _, answer)) in enumerate(zip(times, whats, rows, strict=True))
    ]
    return "\n".join(head + lines)


def play(folder: Path) -> Iterator[tuple[float, list[str], str]]:
    """Yield (epoch seconds, parts of the request, answer) of every entry, decided by the daemon's own code."""
    entries = json.loads((folder / "requests.json").read_text())
    now = first_moment(entries)
    ids = iter(range(1, len(entries) + 1))
    sources = Sources(draw_id=lambda: next(ids).to_bytes(16), shards=DEFAULT_SHARDS)
    report = load((folder / "policy.json").read_bytes(), now=now)
    if report.bundle is None:
        raise ValueError(f"{folder}: {report.errors}")
    replay = Replay(report.bundle, sources)
    numbers: dict[int, int] = {}
    for index, entry in enumerate(entries):
        now = moment(entry.get("at", now))
        if "settle" in entry:
            settle = entry["settle"]
            counts = [settle["usage"].get(name) for name in ("prompt_tokens", "completion_tokens")]
            end = replay.settle(numbers[settle["index"]], of_counts(*counts), round(now * MICRO))
            what = f"settle {settle['index']}: prompt {counts[0]}, completion {counts[1]}"
            parts = (f"{end.refunded:g} given back", f"{end.overrun:g} more")
            yield now, [what], parts[0] if end.refunded else parts[1]
            continue
        numbers[index], finished = replay.decide(request_of(entry, sources), round(now * MICRO))
        yield now, _request(entry), _answer(finished.decision)


def first_moment(entries: list[dict[str, Any]]) -> float:
    """Return the time of a requests file's first entry: its bundle is loaded then (§16.1)."""
    return moment(entries[0]["at"])


def moment(at: float | str) -> float:
    """Return epoch seconds from epoch seconds or a timestamp."""
    return at if not isinstance(at, str) else datetime.fromisoformat(at).astimezone(UTC).timestamp()


def _request(entry: Mapping[str, Any]) -> list[str]:
    parts = [f"{entry.get('method', 'GET')} {entry['path']}"]
    parts += [f"host {entry['host']}"] if "host" in entry else []
    parts += [f"from {entry['ip']}"] if "ip" in entry else []
    for name, value in entry.get("headers", {}).items():
        shown = f"{value[:10]}…{value[-4:]}" if name == "Authorization" else value
        parts.append(f"{name}: {shown}")
    body = entry.get("body")
    if isinstance(body, dict):
        parts += [f"{name} {body[name]}" for name in ("model", "max_tokens", "q") if name in body]
    return parts


def _answer(decision: Decision) -> str:
    parts = [f"{decision.status} {decision.reason}"]
    if decision.policy_id:
        rule = f"/{decision.rule_name}" if decision.rule_name else ""
        parts.append(decision.policy_id + rule)
    if decision.delay_ms:
        parts.append(f"after {decision.delay_ms} ms")
    if decision.reserved is not None and decision.action != "reject":
        parts.append(f"{decision.reserved} reserved")
    if decision.action != "reject" and decision.limit is not None:
        parts.append(f"{decision.remaining:g} of {decision.limit:g} left")
    if decision.retry_after_base:
        parts.append(f"retry in {decision.retry_after_base} s")
    if decision.would_reject:
        parts.append(f"shadow would reject: {decision.original_reason}")
    return ", ".join(parts)


def documents() -> dict[Path, str]:
    """Return every written file and what belongs into it."""
    return {
        ROOT / "docs/reference.md": reference_text(),
        ROOT / "docs/settings.md": settings_text(),
        GUIDE: guide(GUIDE.read_text()),
    }


if __name__ == "__main__":
    for path, content in documents().items():
        path.write_text(content)
