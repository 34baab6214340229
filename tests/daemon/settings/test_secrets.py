"""Secrets from files and credentials: one place each, bounded, and never repeated in a message."""

import os
from pathlib import Path

import pytest

from daemon.settings import SettingsError, ignored, load, without_secrets
from daemon.settings.secrets import MAX_SECRET_BYTES, is_secret, secret_of_file

KEY = "FAIRVISOR_BUNDLE_SIGNING_KEY"
HEADER = "FAIRVISOR_UPSTREAM_HEADER_Authorization"


@pytest.fixture(name="secret")
def _secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("canary value\n")
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_file_stands_in_for_a_variable(secret: Path, end: str) -> None:
    secret.write_text(f"canary value{end}")
    settings = load({f"{KEY}_FILE": str(secret), f"{HEADER}_FILE": str(secret)})
    assert settings.signing_key == b"canary value"
    assert settings.secrets == {KEY: "canary value", HEADER: "canary value"}
    assert "canary" not in repr(settings)


def test_credentials_stand_in_for_variables(tmp_path: Path) -> None:
    for name, text in ((KEY, "one"), (HEADER, "Bearer two\n"), ("other", "three")):
        (tmp_path / name).write_text(text)
    settings = load({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.secrets == {KEY: "one", HEADER: "Bearer two"}


@pytest.mark.parametrize("variable", [KEY, "FAIRVISOR_DEBUG_SESSION_SECRET", HEADER])
def test_every_secret_has_one_place(variable: str, secret: Path, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / variable).write_text("canary")
    places = [
        {variable: "canary value"},
        {f"{variable}_FILE": str(secret)},
        {"CREDENTIALS_DIRECTORY": str(folder)},
    ]
    for place in places:
        assert variable in load(place).secrets
    for first in range(3):
        for second in range(first + 1, 3):
            with pytest.raises(SettingsError, match="is set twice, by ") as caught:
                load(places[first] | places[second])
            assert str(caught.value).startswith(f"{variable}: ")
            assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"canary\ncanary\n", "more than one line"),
        (b"canary\0", "control characters"),
        (b"canary\xff", "not UTF-8"),
        (b"canary" * MAX_SECRET_BYTES, f"is over {MAX_SECRET_BYTES} bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_named_and_not_quoted(
    secret: Path, content: bytes, says: str
) -> None:
    secret.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load({f"{KEY}_FILE": str(secret)})
    message = str(caught.value)
    assert message.startswith(f"{KEY}_FILE: {secret} ")
    assert says in message
    assert "canary" not in message
    assert "\n" not in message


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, says in (
        (tmp_path / "absent", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (fifo, "is not a regular file"),  # and nobody waits for a writer
    ):
        with pytest.raises(SettingsError) as caught:
            load({f"{HEADER}_FILE": str(path)})
        assert str(caught.value) == f"{HEADER}_FILE: {path} {says}"
    with pytest.raises(SettingsError, match="CREDENTIALS_DIRECTORY: /nowhere cannot be read"):
        load({"CREDENTIALS_DIRECTORY": "/nowhere"})


def test_a_variable_that_is_no_text_is_not_quoted() -> None:
    with pytest.raises(SettingsError) as caught:
        load({KEY: "canary\udcff"})
    assert str(caught.value) == f"{KEY}: is not UTF-8 text"


def test_children_get_an_environment_without_secrets(secret: Path) -> None:
    kept = {"PATH": "/bin", "FAIRVISOR_MODE": "hybrid", "FAIRVISOR_TOR_EXITS_FILE": "/t"}
    gone = {
        KEY: "canary",
        f"{HEADER}_FILE": str(secret),
        "FAIRVISOR_UPSTREAM_HEADER_X_Key": "canary",
        "FAIRVISOR_EDGE_TOKEN": "canary",
        "FAIRVISOR_EDGE_TOKEN_FILE": str(secret),
        "CREDENTIALS_DIRECTORY": "/run/credentials/fairvisor.service",
    }
    assert without_secrets(kept | gone) == kept


def test_which_names_are_secrets_and_which_are_files() -> None:
    assert is_secret("FAIRVISOR_UPSTREAM_HEADER_X_File")
    assert not is_secret("FAIRVISOR_UPSTREAM_HEADER_X_FILE")
    assert secret_of_file("FAIRVISOR_UPSTREAM_HEADER_X_FILE") == "FAIRVISOR_UPSTREAM_HEADER_X"
    for name in ("FAIRVISOR_CONFIG_FILE", "FAIRVISOR_GEOIP_FILE", "FAIRVISOR_TOR_EXITS_FILE"):
        assert not is_secret(name)
        assert secret_of_file(name) is None


def test_files_of_secrets_are_settings() -> None:
    files = {f"{KEY}_FILE": "/s", f"{HEADER}_FILE": "/s"}
    assert ignored({**files, "FAIRVISOR_MODE": "wrapper"}) == []
    (line,) = ignored({"FAIRVISOR_MODE_FILE": "/s"})
    assert line.startswith("FAIRVISOR_MODE_FILE is not a setting and is ignored")
