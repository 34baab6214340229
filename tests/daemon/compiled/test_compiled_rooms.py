"""The compiled rooms do what their sources do, and never stand for other sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.compiled import place
from daemon.compiled.__main__ import build
from daemon.compiled.loading import Compiled

ROOT = Path(__file__).parents[3]
PLUGIN = "tests.daemon.compiled.with_compiled_rooms"
TWICE = [
    "tests/daemon/front/test_plain_heads.py",
    "tests/daemon/front/test_request_reader.py",
    "tests/daemon/front/test_upstream.py",
    "tests/daemon/front/test_upstream_headers.py",
    "tests/daemon/front/test_in_flight.py",
    "tests/daemon/front/proxy/test_exchange.py",
    "tests/daemon/front/proxy/test_response_head.py",
    "tests/daemon/llm/test_meter.py",
    "tests/daemon/llm/test_sse.py",
    "tests/daemon/llm/test_event_shape.py",
    "tests/daemon/engine/test_evaluation.py",
    "tests/e2e/test_proxy_reverse.py",
    "tests/e2e/test_settlement.py",
]
"""What is run again with the compiled rooms: what holds a reader, a meter or a connection against
its judge, and daemons whose fronts have loaded them."""


def test_rooms_are_compiled_and_pass_the_tests_of_their_sources(tmp_path: Path) -> None:
    rooms = build(tmp_path / "shelf", "0")  # it is not to be fast
    assert build(tmp_path / "shelf", "0") == rooms
    # Daemons that these tests start find the rooms where `shelf` says.
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "from daemon.compiled import place\n"
        f"place.shelf = lambda: Path({str(tmp_path / 'shelf')!r})\n"
    )
    python_path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-n", "0", *TWICE],
        cwd=ROOT,
        env={**os.environ, "COMPILED_ROOMS": str(rooms), "PYTHONPATH": python_path},
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for package in ("adapters", "daemon", "protocol"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def test_any_change_of_the_sources_is_another_state_of_them(clone: Path) -> None:
    states = {place.digest(clone)}
    assert place.digest(clone) in states
    (clone / "daemon" / "version.py").write_text("# changed\n")
    states.add(place.digest(clone))
    (clone / "protocol" / "added.py").touch()
    states.add(place.digest(clone))
    (clone / "adapters" / "native.py").unlink()
    states.add(place.digest(clone))
    assert len(states) == 4


def test_nothing_is_loaded_that_was_compiled_from_other_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "shelf", lambda: tmp_path / "shelf")
    assert place.compiled() is None
    (tmp_path / "shelf" / ("0" * 32)).mkdir(parents=True)
    assert place.compiled() is None
    mine = tmp_path / "shelf" / place.digest(place.root())
    mine.mkdir()
    assert place.compiled() == mine


def test_modules_are_found_by_their_place(tmp_path: Path) -> None:
    file = tmp_path / "daemon" / "front" / f"http1{place.SUFFIX}"
    file.parent.mkdir(parents=True)
    file.touch()
    finder = Compiled(tmp_path)
    found = finder.find_spec("daemon.front.http1", None)
    assert found is not None
    assert found.origin == str(file)
    assert finder.find_spec("daemon.front.server", None) is None


def test_every_room_that_is_compiled_is_there() -> None:
    missing = [
        name for name in place.ROOMS if not (ROOT / f"{name.replace('.', '/')}.py").is_file()
    ]
    assert not missing


def test_without_a_compiler_it_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "from daemon.compiled import place\n"
        f"place.shelf = lambda: Path({str(tmp_path / 'shelf')!r})\n"
        "import sys; sys.modules['mypyc'] = None\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "daemon.compiled"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("could not compile; the daemon runs from its sources as before:")
    assert list((tmp_path / "shelf").iterdir()) == []
