from pathlib import Path

import pytest

from daemon.admin_socket import AdminSocket, admin_socket
from daemon.settings import SettingsError, load

DEFAULT = "/run/fairvisor/admin.sock"
CHOSEN = "FAIRVISOR_ADMIN_SOCKET"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("environ", "paths", "chosen"),
    [
        ({}, [DEFAULT], False),
        ({CHOSEN: "  "}, [DEFAULT], False),
        (
            {"XDG_RUNTIME_DIR": "/run/user/7/"},
            [DEFAULT, "/run/user/7/fairvisor/admin.sock"],
            False,
        ),
        ({"XDG_RUNTIME_DIR": "relative"}, [DEFAULT], False),
        ({CHOSEN: " /a/b.sock ", "XDG_RUNTIME_DIR": "/run/user/7"}, ["/a/b.sock"], True),
        ({CHOSEN: DEFAULT}, [DEFAULT], True),
        ({CHOSEN: "none"}, [], True),
    ],
)
def test_where_it_is(environ: dict[str, str], paths: list[str], chosen: bool) -> None:  # noqa: FBT001 - a table
    assert admin_socket(environ) == AdminSocket(tuple(paths), chosen)
    assert load(environ).admin_socket == AdminSocket(tuple(paths), chosen)


@pytest.mark.parametrize("path", ["relative.sock", "/" + "x" * 107, "/a\0b", "unix:/a"])
def test_what_is_no_place_is_named_with_the_variable(path: str) -> None:
    with pytest.raises(SettingsError, match=r"^FAIRVISOR_ADMIN_SOCKET: .* absolute path"):
        load({CHOSEN: path})


def test_the_unit_provides_the_folder_of_the_default() -> None:
    unit = (ROOT / "deploy/systemd/fairvisor.service").read_text().splitlines()
    assert f"RuntimeDirectory={Path(DEFAULT).parent.name}" in unit
    assert Path(DEFAULT).parent.parent == Path("/run")
