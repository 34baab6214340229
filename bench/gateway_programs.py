"""The gateways that are measured: how each is started, and what its check is.

A gateway is one line of `GATEWAYS`: the command that runs it on what `fairvisor gateway` prints,
and what to take out of that, so that it forwards without asking. All but nginx, which gets one
worker, are started as the contract tests start them.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.gateways.gateways import SUBJECTS

Way = Literal["unix", "tcp", "envoy-unix"]
"""How it asks: at a Unix socket over HTTP, at a port, or at a Unix socket over gRPC."""

NGINX = """\
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
{main}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    include {config};
}}
"""
LUA = (
    "load_module /usr/lib/nginx/modules/ndk_http_module.so;\n"
    "load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;\n"
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway of `fairvisor gateway`. `template` is the file that `--write` makes.

    `command` gets that file's path and returns the command to run; `unchecked` returns the text of
    the file without the check.
    """

    name: str
    template: str
    command: Callable[[Path], list[str]]
    unchecked: Callable[[str], str]
    way: Way = "unix"


def nginx(config: Path, main: str = "") -> list[str]:
    """Return the command that runs nginx on a file for its http block."""
    if os.geteuid() == 0:
        main += "user root;\n"  # the daemon's socket is in a folder of ours alone
    whole = config.with_name("main.conf")
    whole.write_text(NGINX.format(folder=config.parent, config=config, main=main))
    return ["nginx", "-p", str(config.parent), "-c", str(whole)]


def without(pattern: str) -> Callable[[str], str]:
    """Return a function that takes what matches `pattern` out of a text."""
    return lambda text: re.sub(pattern, "", text, flags=re.MULTILINE)


def under_test(name: str) -> Callable[[Path], list[str]]:
    """Return how the contract tests start a gateway."""
    return next(subject.command for subject in SUBJECTS if subject.name == name)


_AUTHORIZATION = without(r"^ {18}- name: envoy\.filters\.http\.ext_authz\n(?: {20}.*\n)*")

GATEWAYS = (
    Gateway("nginx", "nginx.conf", nginx, without(r"^ *auth_request /_fairvisor;\n")),
    Gateway(
        "nginx-lua",
        "nginx-lua.conf",
        lambda config: nginx(config, LUA),
        without(
            r"^    access_by_lua_block \{\n(?:        .*\n)*    \}\n|^    \w+_by_lua_block .*\n"
        ),
    ),
    Gateway("kong", "kong.yml", under_test("kong"), without(r"^plugins:\n(?:  .*\n)*")),
    Gateway("caddy", "Caddyfile", under_test("caddy"), without(r"^\t\timport fairvisor\n")),
    Gateway("envoy", "envoy.yaml", under_test("envoy"), _AUTHORIZATION),
    Gateway("envoy-grpc", "envoy.yaml", under_test("envoy-grpc"), _AUTHORIZATION, way="envoy-unix"),
    Gateway(
        "envoy-ratelimit",
        "envoy-ratelimit.yaml",
        under_test("envoy-ratelimit"),
        without(r"^ {18}- name: envoy\.filters\.http\.ratelimit\n(?: {20}.*\n)*"),
        way="envoy-unix",
    ),
    Gateway(
        "haproxy",
        "haproxy.cfg",
        under_test("haproxy"),
        without(r"^\thttp-request lua\.fairvisor .*\n"),
    ),
    Gateway(
        "traefik",
        "fairvisor.yml",
        under_test("traefik"),
        without(r"^      middlewares: \[fairvisor(?:-bodiless)?\]\n"),
        way="tcp",
    ),
)
