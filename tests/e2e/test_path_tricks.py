"""However a path is spelled: what an upstream serves as /admin, the policies on /admin have seen.

Each spelling goes straight to real upstreams that read paths in their own ways. Where one serves
the administrators' page, the daemon must have refused: as a proxy before that upstream, and asked
for a decision in every way that a gateway can ask.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams import path_readers
from tests.upstreams.path_readers import ITSELF, PAGE

TRICKS = (
    "/admin", "/admin/", "/admin/users", "/admin/index.html", "//admin", "///admin//users",
    "/./admin", "/admin/.", "/admin/./users", "/x/../admin", "/x/../../admin", "/../admin",
    "/../../admin/users", "/admin/../admin", "/admin/x/..", "/x/y/../../admin", "/x//../admin",
    "/.//admin", "/x/.././admin", "/admin/..//admin", "/%61dmin", "/%61%64%6d%69%6e", "/%61dmin/",
    "/admi%6e", "/admi%6E/users", "/%2fadmin", "/%2Fadmin", "/admin%2f", "/admin%2fusers",
    "/admin%2Fusers", "/x/%2e%2e/admin", "/x/%2E%2e/admin", "/x/.%2e/admin", "/x/%2e./admin",
    "/x%2f..%2fadmin", "/x/..%2fadmin", "/x%2f%2e%2e%2fadmin", "/%2e/admin", "/%2e%2fadmin",
    "/%2e%2e/admin", "/admin?x", "/admin?x=/../y", "/admin/?", "/admin??", "/admin?#", "/admin#x",
    "/admin#", "/admin/#/../x", "/admin/users#x", "/admin#?x", "/admin#/x", "/x/../admin#y",
    "/%61dmin#x", "/admin;x", "/admin;x=1/users", "/admin;/", "/admin;x=1;y=2", "/x/..;/admin",
    "/x/..;a=b/admin", "/;x/admin", "/admin/;x", "/admin/users;x=1", "/.;/admin", "/x;/../admin",
    "/x/%2e%2e;/admin", "/admin%3b", "/admin%3bx/users", "/admin%3fx", "/admin%23x", "/admin%00",
    "/admin%00.html", "/admin/%00", "/admin%20", "/admin%09", "/admin%0a", "/admin%0d%0a",
    "/admin%ff", "/%c0%afadmin", "/x/..%c0%afadmin", "/x/%c0%ae%c0%ae/admin", "/%e0%80%afadmin",
    "/%252fadmin", "/%2561dmin", "/x/%252e%252e/admin", "/x/..%252fadmin", "/%25%36%31dmin",
    "/admin%5c", "/admin%5cusers", "\\admin", "/\\admin", "/x\\..\\admin", "/x/..\\admin",
    "/x%5c..%5cadmin", "/x/..%5cadmin", "/ADMIN", "/Admin/users", "/aDmin", "/admin.", "/admin...",
    "/admin/...", "/admin/.../", "/admin.html", "/admins", "/administrator", "/admin~", "/%adadmin",
    "/%", "/admin%", "/admin%2", "/admin%zz", "/%u0061dmin", "/%2%66admin", "/admin/%2e%2e",
    "/admin/%2e%2e/admin", "/admin/..;/admin", "/*", "/admin*", "/@admin", "/admin:80", "/admin&x",
    "/admin=x", "/admin+", "/+admin", "/admin,x", "/admin|x", "/admin!", "/x/..//admin",
    "/x/...//admin", "/x/.%2e%2fadmin", "/x/.%00./admin", "/x/..%00/admin", "/x/..%01/admin",
    "http://edge.test/admin", "http://edge.test//admin", "http://edge.test/x/../admin",
    "http://edge.test/%61dmin", "HTTP://other/admin/", "http://edge.test?/admin",
    "http://edge.test#/admin", "http://edge.test/admin#x", "http://admin/", "ftp://edge.test/admin",
)  # fmt: skip
SERVED = {"nginx": (60, 40), "files": (12, 0), "wsgi": (30, 8), "servlet": (60, 25)}
"""How many of the spellings at least an upstream takes for /admin: the comparison compares."""


def ask(port: int, target: str) -> bytes:
    """Send a target as it is; return all that is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        head = f"GET {target} HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode("latin-1"))
        answer = b""
        while more := sock.recv(65_536):
            answer += more
    return answer


def bundle(*, switched: bool) -> dict[str, Any]:
    """Return a bundle that refuses whatever it takes for /admin."""
    rule = {
        "name": "nobody",
        "limit_keys": ["header:x-never"],
        "on_missing": "reject",
        "algorithm": "token_bucket",
        "algorithm_config": {"tokens_per_second": 1, "burst": 1},
    }
    selector = {"pathExact": "/admin", "pathPrefix": "/admin/"}
    policies = [{"id": "admin", "spec": {"selector": selector, "rules": [rule]}}]
    switch = {"scope_key": "ua:bot", "scope_value": "true", "route": "/admin"}
    if switched:
        return {"bundle_version": 1, "policies": [], "kill_switches": [switch]}
    return {"bundle_version": 1, "policies": policies}


@dataclass(frozen=True)
class Upstream:
    """An upstream and the spellings that it serves the administrators' page for."""

    name: str
    port: int
    served: tuple[str, ...]
    itself: tuple[str, ...]
    """Those of them that are taken for /admin, not for something below it."""


@pytest.fixture(name="upstreams", scope="module")
def _upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Upstream]]:
    def folder(name: str) -> Path:
        return tmp_path_factory.mktemp(name)

    with ExitStack() as stack:
        ports = {
            "nginx": stack.enter_context(path_readers.nginx(folder("nginx"))),
            "files": stack.enter_context(path_readers.files(folder("files"))),
            "wsgi": stack.enter_context(path_readers.wsgi(servlet=False)),
            "servlet": stack.enter_context(path_readers.wsgi(servlet=True)),
        }
        answers = {name: {each: ask(port, each) for each in TRICKS} for name, port in ports.items()}
        yield [
            Upstream(name, port, *(_with(page, answers[name]) for page in (PAGE, ITSELF)))
            for name, port in ports.items()
        ]


def _with(page: bytes, answers: dict[str, bytes]) -> tuple[str, ...]:
    return tuple(target for target, answer in answers.items() if page in answer)


def test_the_upstreams_are_taken_in_by_many_of_them(upstreams: list[Upstream]) -> None:
    counts = {each.name: (len(each.served), len(each.itself)) for each in upstreams}
    assert all(counts[name] >= least for name, least in SERVED.items()), counts


def test_no_spelling_gets_past_the_proxy(
    serve_all: Callable[..., Any], upstreams: list[Upstream]
) -> None:
    for upstream in upstreams:
        daemon = serve_all(
            bundle(switched=False),
            mode="reverse_proxy",
            backend_url=f"http://127.0.0.1:{upstream.port}",
        )
        past = [each for each in TRICKS if PAGE in ask(daemon.port, each)]
        assert past == [], upstream.name
        assert b"anybody's" in ask(daemon.port, "/")


WAYS: dict[str, Callable[[str], tuple[str, dict[str, str]]]] = {
    "x-original-uri": lambda uri: ("/v1/decision", {"X-Original-URI": uri}),
    "x-forwarded-uri": lambda uri: ("/v1/decision", {"X-Forwarded-Uri": uri}),
    "nginx": lambda uri: ("/v1/nginx/decision", {"X-Original-URI": uri}),
    "below": lambda uri: (f"/v1/decision{uri}", {}),
    "envoy": lambda uri: (f"/v1/envoy/decision{uri}", {}),
}


@pytest.mark.parametrize("switched", [False, True])
def test_no_spelling_is_allowed_by_a_decision(
    serve_all: Callable[..., Any],
    upstreams: list[Upstream],
    *,
    switched: bool,
) -> None:
    daemon = serve_all(bundle(switched=switched))
    served = dict.fromkeys(
        each
        for upstream in upstreams
        for each in (upstream.itself if switched else upstream.served)
    )
    allowed = []
    with daemon.connect() as connection:
        for uri in served:
            for way, question in WAYS.items():
                if way in {"below", "envoy"} and not uri.startswith("/"):
                    continue
                target, headers = question(uri)
                answer = connection.request(target, headers | {"User-Agent": "GPTBot"})
                if answer.status == 200:
                    allowed.append((way, uri))
                else:
                    assert answer.status in {403, 429}, (way, uri, answer)
        assert connection.request(headers={"X-Original-URI": "/"}).status == 200
    assert allowed == []
