"""The install page: its commands in a scratch root, and its table of secrets."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.settings.secrets import is_secret

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "docs/install.md"
TEMPLATE = ROOT / "daemon/cli/templates/api.json"


def test_the_commands_print_what_the_document_says(
    serve: Callable[..., Any], run_document: Callable[..., Any], tmp_path: Path
) -> None:
    daemon = serve(TEMPLATE.read_text())
    etc = tmp_path / "etc"
    etc.mkdir(mode=0o750)
    assert shutil.which("openssl") is not None
    where = {"127.0.0.1:8080": f"127.0.0.1:{daemon.port}", "/etc/fairvisor": str(etc)}
    for step in run_document("install.md", replace=where):
        assert step.printed.replace(str(etc), "/etc/fairvisor") == step.expected, step.command
    assert len((etc / "secrets/debug").read_text().strip()) >= 40


def test_the_credentials_are_secrets_that_the_unit_shows() -> None:
    named = re.findall(r"`(LoadCredential=(\w+):\S+)`", INSTALL.read_text())
    unit = (ROOT / "deploy/systemd/fairvisor.service").read_text()
    assert len(named) == 3
    for line, name in named:
        assert is_secret(name)
        assert f"#{line}\n" in unit
