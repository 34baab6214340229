"""Folders that are not this user's, which a test that root runs cannot have."""

import os
from pathlib import Path

import pytest

from daemon.settings import UnixAddress
from daemon.supervisor.examination import examine_address, examine_state
from daemon.supervisor.listeners import ListenError
from shard.stores.folder import StateError


@pytest.fixture(name="foreign")
def _foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "foreign"
    folder.mkdir()
    asked = os.access
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder and asked(path, mode))
    return folder


@pytest.mark.parametrize("below", ["", "new", "new/er"])
def test_a_state_folder(foreign: Path, below: str) -> None:
    path = foreign / below
    with pytest.raises(StateError) as caught:
        examine_state(path)
    assert str(caught.value).startswith(
        f"FAIRVISOR_STATE_DIR: {path} cannot be written to: Permission denied; set it to"
    )


def test_a_state_folder_whose_log_is_ours(foreign: Path) -> None:
    (foreign / "log").mkdir()
    with pytest.raises(StateError, match="Permission denied"):
        examine_state(foreign)


def test_a_unix_socket(foreign: Path) -> None:
    with pytest.raises(ListenError, match=r"FAIRVISOR_LISTEN: unix:.* is not permitted for this"):
        examine_address(UnixAddress(f"{foreign}/s"), "FAIRVISOR_LISTEN")
