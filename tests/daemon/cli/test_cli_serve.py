"""`fairvisor serve --check`: what would start, what would not, and nothing touched."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / "examples" / "quickstart" / "policy.json"
SECONDS = 60.0

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="check")
def _check(command: tuple[list[str], dict[str, str]], tmp_path: Path) -> Check:
    program, kept = command

    def check(**settings: object) -> tuple[int, str, str]:
        """Return the exit code, the output and the errors of a check with these settings."""
        chosen = {
            "config_file": QUICKSTART,
            "listen": "127.0.0.1:0",
            "state_dir": "none",
            "admin_socket": "none",
            **settings,
        }
        ran = subprocess.run(
            [*program, "serve", "--check"],
            env=kept | {f"FAIRVISOR_{name.upper()}": str(each) for name, each in chosen.items()},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert "Traceback" not in ran.stderr
        return ran.returncode, ran.stdout, ran.stderr

    return check


def test_it_says_what_would_start_and_makes_nothing(check: Check, tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    code, said, errors = check(
        listen=f"127.0.0.1:0,unix:{tmp_path}/s", state_dir=state, admin_socket=f"{tmp_path}/admin"
    )
    assert (code, errors) == (0, "")
    assert said == (
        "ok: would serve bundle version 1 in mode decision_service"
        f" at 127.0.0.1:0, unix:{tmp_path}/s, with counters in {state}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_it_warns_as_the_daemon_does(check: Check) -> None:
    code, said, errors = check(backend_url="http://127.0.0.1:9000", shard="3")
    assert (code, said[:4]) == (0, "ok: ")
    backend, shard = errors.splitlines()
    assert "WARNING" in backend
    assert "FAIRVISOR_BACKEND_URL is ignored in mode decision_service" in backend
    assert backend.endswith("it needs FAIRVISOR_MODE=reverse_proxy")
    assert shard.endswith(
        "FAIRVISOR_SHARD is not a setting and is ignored; did you mean FAIRVISOR_SHARDS?"
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("state_dir", "{file}", "{file} cannot be written to: Not a directory; set it to a folder"),
        ("state_dir", "{file}/s", "{file}/s cannot be written to: Not a directory"),
        ("listen", "unix:/nonexist/x.sock", "unix:/nonexist/x.sock lies in a folder that does not"),
        ("listen", "unix:{file}/s", "unix:{file}/s lies in something that is not a folder"),
        ("listen", "unix:{file}", "unix:{file} is there already, and no socket; choose another"),
        ("listen", "192.0.2.1:0", "192.0.2.1:0 is not an address of this machine"),
        ("envoy_listen", "192.0.2.1:0", "192.0.2.1:0 is not an address of this machine"),
        ("admin_socket", "/nonexist/x", "/nonexist/x lies in a folder that does not exist"),
        ("admin_socket", "{file}", "{file} is there already, and no socket"),
        ("geoip_file", "/nope", "/nope cannot be read: No such file or directory"),
        ("tor_exits_file", "/", "/ cannot be read: Is a directory"),
    ],
)
def test_it_says_what_cannot_be_had(
    check: Check, tmp_path: Path, name: str, value: str, says: str
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    code, said, errors = check(**{name: value.format(file=file)})
    (line,) = errors.splitlines()
    assert (code, said) == (1, "")
    assert line.startswith(f"fairvisor: FAIRVISOR_{name.upper()}: {says.format(file=file)}")
    assert file.read_text() == "precious"


def test_what_is_in_use_is_fine(check: Check, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"{tmp_path}/s")
        unix.listen()
        port = tcp.getsockname()[1]
        code, said, errors = check(
            listen=f"127.0.0.1:{port},unix:{tmp_path}/s", admin_socket=f"{tmp_path}/s"
        )
    assert (code, errors) == (0, "")
    assert f"at 127.0.0.1:{port} (in use now), unix:{tmp_path}/s (in use now), with" in said
    assert (tmp_path / "s").is_socket()
