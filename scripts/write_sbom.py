"""Write the bill of materials of the lock file: `deploy/sbom.cdx.json`, CycloneDX 1.6.

`scripts/lock` runs it. Everything in it follows from `deploy/requirements.lock` and
`pyproject.toml`, so that it is the same wherever and whenever it is made: no times, no hosts, no
serial number. What needs what is in the comments that pip-compile leaves.
"""

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "deploy/requirements.lock"
SBOM = ROOT / "deploy/sbom.cdx.json"
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)(?: ; (.*?))? \\$")
_HASH = re.compile(r"^    --hash=sha256:([0-9a-f]{64})(?: \\)?$")
_OURS = re.compile(r"^fairvisor\b")


@dataclass
class Pinned:
    """One line of the lock file: exactly this version, of exactly these files, for `needed_by`."""

    name: str
    version: str
    marker: str = ""
    hashes: list[str] = field(default_factory=list)
    needed_by: list[str] = field(default_factory=list)

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read_lock(text: str) -> list[Pinned]:
    """Return what a lock file pins.

    Raises:
        ValueError: a line that is no part of a pin; it is named.
    """
    pins: list[Pinned] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _PIN.match(line):
            pins.append(Pinned(found[1], found[2], found[3] or ""))
        elif found := _HASH.match(line):
            pins[-1].hashes.append(found[1])
        elif line.startswith("    #"):
            reason = line.lstrip(" #").removeprefix("via").strip()
            pins[-1].needed_by += [reason] if reason else []
        else:
            raise ValueError(f"line {number} is no part of a pin: {line!r}")
    return pins


def sbom(pins: list[Pinned]) -> dict[str, object]:
    """Return the bill of materials as a document."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    root = {
        "type": "application",
        "bom-ref": "fairvisor",
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"license": {"id": project["license"]}}],
    }
    needs: dict[str, list[str]] = {"fairvisor": []}
    by_name = {pin.name: pin for pin in pins}
    for pin in pins:
        needs.setdefault(pin.purl, [])
        for reason in pin.needed_by:
            name = re.split(r"[\s\[(]", reason)[0]
            who = "fairvisor" if _OURS.match(reason) else by_name[name].purl
            needs.setdefault(who, []).append(pin.purl)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": root,
            "properties": [{"name": "cdx:reproducible", "value": "true"}],
        },
        "components": [
            {
                "type": "library",
                "bom-ref": pin.purl,
                "name": pin.name,
                "version": pin.version,
                "purl": pin.purl,
                "scope": "required",
            }
            for pin in pins
        ],
        "dependencies": [
            {"ref": who, "dependsOn": sorted(set(what))} for who, what in sorted(needs.items())
        ],
    }


def text() -> str:
    """Return the file that belongs to the lock file."""
    return json.dumps(sbom(read_lock(LOCK.read_text())), indent=2) + "\n"


if __name__ == "__main__":
    SBOM.write_text(text())
