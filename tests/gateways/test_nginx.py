"""What is nginx's own: redirects within it, its own errors, the connections that it keeps."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateways.bundles import CONTRACT
from tests.gateways.gateways import SUBJECTS, Subject
from tests.gateways.site import Serve, Site, site

Edit = Callable[[str], str]

OWN = [subject for subject in SUBJECTS if subject.gateway.folder == "nginx"]


@pytest.fixture(name="nginx", params=OWN, ids=lambda each: each.name)
def _nginx(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.param
    return found


def with_locations(root: Path, fallback: str, nginx: Subject) -> Edit:
    """Serve files below `root` as well; the page tells what such a location must repeat."""
    mapped = "error_page 401 403 = @fairvisor_refused;"
    again = mapped if nginx.name == "nginx" else ""
    text = FILES.format(root=root, fallback=fallback, again=again)
    return lambda config: config.replace("    location / {\n", f"{text}\n    location / {{\n", 1)


FILES = """
    location /few/ {{
        root {root};
        try_files $uri $uri/ {fallback};
        error_page 404 /few/missing.html;
        {again}
    }}
    location /any/forbidden/ {{
        deny all;
    }}
    location /any/private/ {{
        root {root};
        autoindex off;
    }}
"""


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> Path:
    (tmp_path / "few/folder").mkdir(parents=True)
    (tmp_path / "any/private").mkdir(parents=True)
    for name in ("index.html", "folder/index.html", "missing.html"):
        (tmp_path / "few" / name).write_text(name)
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "fallback", "status", "body"),
    [
        ("/few/index.html", "/few/index.html", 200, b"index.html"),
        ("/few/nothing-there", "/few/index.html", 200, b"index.html"),
        ("/few/folder/", "/few/index.html", 200, b"folder/index.html"),
        ("/few/nothing-there", "=404", 404, b"missing.html"),
    ],
)
def test_a_request_that_nginx_redirects_within_is_charged_once(  # noqa: PLR0913 - a table's row
    nginx: Subject,
    serve: Serve,
    files: Path,
    a_key: str,
    path: str,
    fallback: str,
    status: int,
    body: bytes,
) -> None:
    edit = with_locations(files, fallback, nginx)
    with site(nginx, "unix", serve, CONTRACT, edit=edit) as running:
        answers = [running.ask(path, {"X-Key": a_key}) for _ in range(3)]
        said = running.said()
    assert [answer.status for answer in answers] == [status, status, 429]
    assert answers[1].body == body
    if status == 200:  # what add_header and the Lua module add to
        assert answers[1].headers["ratelimit-remaining"] == "0"
    assert answers[2].headers["ratelimit-limit"] == "2"
    assert "uninitialized" not in said


def test_refusals_by_nginx_itself_stay_its_own(
    nginx: Subject, serve: Serve, files: Path, a_key: str
) -> None:
    edit = with_locations(files, "=404", nginx)
    with site(nginx, "unix", serve, CONTRACT, edit=edit) as running:
        for path in ("/any/forbidden/x", "/any/private/"):
            answer = running.ask(path, {"X-Key": a_key})
            assert answer.status == 403
            assert "x-fairvisor-reason" not in answer.headers


def test_connections_to_the_daemon_are_kept_also_over_refusals(
    nginx: Subject, serve: Serve, a_key: str
) -> None:
    with site(nginx, "tcp", serve, CONTRACT) as running, running.client() as client:
        statuses = [client.ask("/few/x", {"X-Key": a_key}).status for _ in range(40)]
        assert statuses == [200, 200] + [429] * 38
        assert connections(running) < 10  # one a worker; some may have been closed while idle


def connections(running: Site) -> int:
    """Return how many connections to the daemon's port there are or have just been (TIME_WAIT)."""
    port = int(re.findall(r"127\.0\.0\.1:(\d+)", running.daemon.said())[0])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2] == f"0100007F:{port:04X}" for row in rows)
