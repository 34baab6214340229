"""The admin socket's file: whose it is, what it replaces, and what it leaves alone."""

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.admin_socket import AdminSocket
from daemon.supervisor.admin import listener
from daemon.supervisor.admin.listener import AdminListener, open_listener
from daemon.supervisor.listeners import ListenError

Open = Callable[..., AdminListener]


@pytest.fixture(name="opened")
def _opened() -> Iterator[Callable[[AdminSocket], AdminListener]]:
    """Open listeners that are closed at the end."""
    made: list[AdminListener] = []

    def opened(where: AdminSocket) -> AdminListener:
        listener, why = open_listener(where)
        assert listener is not None, why
        made.append(listener)
        return listener

    yield opened
    for each in made:
        each.sock.close()


def chosen(path: Path) -> AdminSocket:
    return AdminSocket((str(path),), chosen=True)


def default(*paths: Path) -> AdminSocket:
    return AdminSocket(tuple(map(str, paths)), chosen=False)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_only_its_user_may_use_it_whatever_the_mask(
    tmp_path: Path, opened: Open, mask: int
) -> None:
    before = os.umask(mask)
    try:
        opened(chosen(tmp_path / "s"))
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


def test_what_a_dead_daemon_left_is_replaced(tmp_path: Path, opened: Open) -> None:
    opened(chosen(tmp_path / "s")).sock.close()
    assert (tmp_path / "s").exists()
    opened(chosen(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))


def test_what_a_living_one_holds_is_not(tmp_path: Path, opened: Open) -> None:
    opened(chosen(tmp_path / "s"))
    with pytest.raises(ListenError) as caught:
        open_listener(chosen(tmp_path / "s"))
    assert str(caught.value) == (
        f"FAIRVISOR_ADMIN_SOCKET: {tmp_path / 's'} is in use by another daemon"
    )
    assert (tmp_path / "s").exists()


def test_of_many_that_start_at_once_one_gets_it(tmp_path: Path, opened: Open) -> None:
    opened(chosen(tmp_path / "s")).sock.close()  # all of them find a dead one's
    got: list[object] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait(20)
        try:
            got.append(opened(chosen(tmp_path / "s")))
        except ListenError as error:
            got.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(isinstance(each, AdminListener) for each in got) == 1
    assert sum("in use" in str(each) for each in got) == 7


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_text("mine"), "is there already, and no socket"),
        (lambda path: path.symlink_to("/nowhere"), "is there already, and no socket"),
        (lambda path: path.mkdir(), "is there already, and no socket"),
    ],
)
def test_what_is_not_a_socket_stays(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    make(tmp_path / "s")
    with pytest.raises(ListenError, match=why):
        open_listener(chosen(tmp_path / "s"))
    assert os.path.lexists(tmp_path / "s")


def test_a_link_to_somebody_elses_socket_stays(tmp_path: Path, opened: Open) -> None:
    opened(chosen(tmp_path / "theirs")).sock.close()  # left behind, so that it could be replaced
    (tmp_path / "s").symlink_to(tmp_path / "theirs")
    with pytest.raises(ListenError, match="no socket"):
        open_listener(chosen(tmp_path / "s"))
    assert (tmp_path / "theirs").is_socket()


def test_a_link_that_is_planted_at_the_last_moment_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_clear", lambda path: Path(path).symlink_to(tmp_path / "theirs"))
    with pytest.raises(ListenError, match="in use"):
        open_listener(chosen(tmp_path / "s"))
    assert not (tmp_path / "theirs").exists()


def test_a_folder_that_was_named_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="lies in a folder that does not exist"):
        open_listener(chosen(tmp_path / "x" / "s"))
    assert not (tmp_path / "x").exists()


def test_the_folder_of_the_default_is(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "run" / "admin.sock"
    (tmp_path / "run").mkdir()
    (tmp_path / "run").rmdir()
    assert opened(default(path)).path == str(path)


def test_a_default_that_is_not_for_this_user_gives_way_to_the_next(
    tmp_path: Path, opened: Open
) -> None:
    (tmp_path / "file").touch()
    second = tmp_path / "user" / "admin.sock"
    assert opened(default(tmp_path / "file" / "admin.sock", second)).path == str(second)


def test_without_any_there_is_a_line_that_says_why_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    listener, why = open_listener(default(tmp_path / "file" / "s", tmp_path / "x" / "y" / "s"))
    assert listener is None
    assert why == (
        f"no admin socket: {tmp_path}/file/s lies in something that is not a folder, "
        f"{tmp_path}/x/y/s lies in a folder that does not exist; "
        "set FAIRVISOR_ADMIN_SOCKET to a path that this user may write, or to none"
    )


def test_a_default_in_use_does_not_give_way(tmp_path: Path, opened: Open) -> None:
    # The command line would ask the other daemon, and never this one.
    opened(default(tmp_path / "s"))
    listener, why = open_listener(default(tmp_path / "s", tmp_path / "other"))
    assert listener is None
    assert "in use by another daemon" in why


def test_none_is_no_socket_and_no_warning() -> None:
    assert open_listener(AdminSocket((), chosen=True)) == (None, "")


def test_it_removes_its_own_file_and_no_other(tmp_path: Path, opened: Open) -> None:
    first = opened(chosen(tmp_path / "s"))
    first.remove()
    assert not (tmp_path / "s").exists()
    opened(chosen(tmp_path / "s"))
    first.remove()
    assert (tmp_path / "s").exists()
