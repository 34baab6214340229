"""What cannot start says why in one line each, and ends with 1 (behaviour §2.5, §14)."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Daemon = Any
Serve = Callable[..., Daemon]
START_SECONDS = 60.0


@pytest.fixture(name="bundle")
def _bundle(bucket_policy: Callable[..., object]) -> dict[str, Any]:
    return {"bundle_version": 1, "policies": [bucket_policy("p", "/", "ip:address", 1, 2)]}


def lines_of_failure(daemon: Daemon) -> list[str]:
    """Return what it said, without the names of its own files; it must have ended with 1."""
    assert daemon.process.wait(START_SECONDS) == 1, daemon.said()
    return [str(line) for line in daemon.said().replace(str(daemon.folder), "").splitlines()]


def test_a_port_in_use(serve: Serve, bundle: object) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = serve(bundle, ready=False, listen=address)
        (line,) = lines_of_failure(daemon)
    what = f"fairvisor: FAIRVISOR_LISTEN: {address} is already in use"
    assert line == f"{what}; stop what listens there or choose another address"


def test_a_unix_socket_in_use(serve: Serve, bundle: object, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        (line,) = lines_of_failure(serve(bundle, ready=False, listen=f"unix:{path}"))
    assert line.startswith(f"fairvisor: FAIRVISOR_LISTEN: unix:{path} is already in use")
    assert path.exists()


def test_a_folder_that_is_not_there(serve: Serve, bundle: object) -> None:
    (line,) = lines_of_failure(serve(bundle, ready=False, listen="unix:/nowhere/at/all"))
    assert "unix:/nowhere/at/all lies in a folder that does not exist" in line


def test_what_was_bound_before_the_failure_is_removed(
    serve: Serve, bundle: object, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    (line,) = lines_of_failure(serve(bundle, ready=False, listen=f"unix:{path},192.0.2.1:1"))
    assert "192.0.2.1:1 is not an address of this machine" in line
    assert not path.exists()


def test_no_place_for_its_own_sockets(serve: Serve, bundle: object, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    (line,) = lines_of_failure(serve(bundle, ready=False, tmpdir=deep))
    assert line.startswith("fairvisor: TMPDIR: ")


def test_no_bundle_configured(serve: Serve) -> None:
    (line,) = lines_of_failure(serve(ready=False))
    assert line.startswith("fairvisor: FAIRVISOR_CONFIG_FILE is not set: ")
    assert "fairvisor init" in line


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("worker_processes", "many", "'many' is not a positive whole number"),
        ("shards", "0", "'0' is not a positive whole number"),
        ("listen", "8080", "'8080' is not host:port"),
        ("mode", "turbo", "'turbo' must be one of"),
        ("max_body_bytes", "10q", "'10q' is not a size"),
        ("owner_timeout_ms", "-1", "must be greater than 0"),
        ("trusted_proxies", "10.0.0.1/8", "10.0.0.0/8"),
        ("trusted_proxies", "everybody", "'everybody' is not an address or CIDR block"),
    ],
)
def test_a_bad_variable(serve: Serve, bundle: object, name: str, value: str, says: str) -> None:
    (line,) = lines_of_failure(serve(bundle, ready=False, **{name: value}))
    assert line.startswith(f"fairvisor: FAIRVISOR_{name.upper()}: ")
    assert says in line


def test_a_bundle_that_is_not_there(serve: Serve) -> None:
    daemon = serve(ready=False, config_file="/nowhere/policy.json")
    assert lines_of_failure(daemon) == [
        "fairvisor: /nowhere/policy.json: $: cannot be read: No such file or directory"
    ]


def test_a_bundle_that_is_no_file(serve: Serve, tmp_path: Path) -> None:
    (line,) = lines_of_failure(serve(ready=False, config_file=tmp_path))
    assert line.endswith("cannot be read: Is a directory")


def test_a_bundle_that_is_not_json(serve: Serve) -> None:
    (line,) = lines_of_failure(serve("{", ready=False))
    assert line.startswith("fairvisor: /policy.json: $: ")


def test_every_problem_of_a_bundle_in_a_line_of_its_own(
    serve: Serve, bundle: dict[str, Any]
) -> None:
    bundle["bundle_version"] = 0
    rule = bundle["policies"][0]["spec"]["rules"][0]
    rule["limit_keys"] = ["colour"]
    rule["algorithm_config"]["burst"] = -1
    lines = lines_of_failure(serve(bundle, ready=False))
    places = ["$.bundle_version", "$.policies[0].spec.rules[0]"]
    assert len(lines) >= 3
    assert all(line.startswith("fairvisor: /policy.json: $.") for line in lines)
    assert all(any(place in line for line in lines) for place in places)


def test_warnings_do_not_hinder(serve: Serve, bundle: dict[str, Any]) -> None:
    bundle["colour"] = "blue"
    daemon = serve(bundle)
    assert "unknown key" in daemon.said()
    assert daemon.decide("/").status == 200


def test_what_the_mode_does_not_use_is_told(serve: Serve, bundle: object) -> None:
    daemon = serve(bundle, backend_url="http://127.0.0.1:9000")
    (line,) = [each for each in daemon.said().splitlines() if "FAIRVISOR_BACKEND_URL" in each]
    assert "WARNING" in line
    assert line.endswith(
        "is ignored in mode decision_service: it needs FAIRVISOR_MODE=reverse_proxy"
    )


def test_a_check_leaves_the_running_daemon_alone(serve: Serve, bundle: object) -> None:
    daemon = serve(bundle, unix=True)
    assert daemon.decide("/").status == 200
    folder = daemon.folder
    names = {
        "CONFIG_FILE": f"{folder}/policy.json",
        "LISTEN": f"unix:{daemon.unix}",
        "STATE_DIR": f"{folder}/state",
        "ADMIN_SOCKET": f"{folder}/admin.sock",
    }
    kept = {name: text for name, text in os.environ.items() if not name.startswith("FAIRVISOR_")}
    ran = subprocess.run(
        [sys.executable, "-m", "daemon.cli.main", "serve", "--check"],
        env=kept | {f"FAIRVISOR_{name}": text for name, text in names.items()},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("ok: would serve bundle version 1 in mode decision_service at ")
    assert f"unix:{daemon.unix} (in use now)" in ran.stdout
    assert daemon.decide("/").headers["ratelimit-remaining"] == "0"
    assert Path(daemon.unix).is_socket()
    assert (folder / "admin.sock").is_socket()
    assert daemon.stop() == 0


def poisoned(folder: Path, statement: str) -> Path:
    """Return a folder with a module that does something in fronts only, as it is imported."""
    text = f"import os, sys\nif 'daemon.front' in sys.orig_argv:\n    {statement}\n"
    (folder / "httptools.py").write_text(text)
    return folder


def test_a_front_that_cannot_start(serve: Serve, bundle: object, tmp_path: Path) -> None:
    broken = poisoned(tmp_path, "raise ImportError('no parser for this processor')")
    daemon = serve(bundle, ready=False, unix=True, python_path=broken)
    assert lines_of_failure(daemon) == [
        "fairvisor: front 0 cannot be started: ImportError: no parser for this processor"
    ]
    assert not Path(daemon.unix).exists()


def test_a_shard_that_cannot_start(serve: Serve, bundle: object, tmp_path: Path) -> None:
    (tmp_path / "shard").mkdir()
    (tmp_path / "shard" / "__init__.py").touch()
    (tmp_path / "shard" / "__main__.py").write_text("import sys; sys.exit(3)\n")
    daemon = serve(bundle, ready=False, python_path=tmp_path)
    (line,) = lines_of_failure(daemon)
    assert line == "fairvisor: shard 0 cannot be started: exit code 3"


def test_a_child_that_is_killed_before_it_can_say_a_word(
    serve: Serve, bundle: object, tmp_path: Path
) -> None:
    broken = poisoned(tmp_path, "os.kill(os.getpid(), 9)")
    (line,) = lines_of_failure(serve(bundle, ready=False, python_path=broken))
    assert line == "fairvisor: front 0 cannot be started: SIGKILL"


def test_the_bundle_in_force_is_the_one_in_the_file(serve: Serve, bundle: object) -> None:
    daemon = serve(json.dumps(bundle))
    with daemon.connect() as connection:
        assert json.loads(connection.request("/readyz").body)["policy_version"] == 1
