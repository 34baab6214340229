"""One daemon of each mode with every secret planted, and everything that can go wrong with it."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from daemon.cli.main import main as fairvisor
from protocol.signing import sign
from tests.canaries import birds
from tests.smuggling.wire import Upstream

Daemon = Any
BOOMS = ("begin", "finish", "handle", "asked", "data", "record")
MODES = ("decision_service", "reverse_proxy", "wrapper", "hybrid")
BODY = json.dumps(
    {"model": "gpt-4o", "messages": [{"role": "user", "content": birds.REQUEST_BODY}]}
).encode()


def bundle(version: int = 1) -> dict[str, Any]:
    """Return a bundle that counts by every header and parameter that may be a credential."""
    keys = ("header:x-api-key", "header:authorization", "header:cookie", "query:token",
            "query:key", "jwt:sub")  # fmt: skip
    loop = {"enabled": True, "window_seconds": 60, "threshold_identical_requests": 2,
            "action": "warn"}  # fmt: skip
    breaker = {"enabled": True, "spend_rate_threshold_per_minute": 2, "action": "reject",
               "alert": True}  # fmt: skip

    def policy(name: str, paths: str, burst: int, **more: object) -> dict[str, Any]:
        config = {"tokens_per_second": 0.001, "burst": burst}
        rules = [
            {"name": key, "limit_keys": [key], "algorithm": "token_bucket",
             "algorithm_config": config}
            for key in keys
        ]  # fmt: skip
        return {"id": name, "spec": {"selector": {"pathPrefix": paths}, "rules": rules, **more}}

    policies = [policy("counted", "/", 10_000, loop_detection=loop)]
    for prefix in ("", "/openai"):
        policies.append(policy(f"limited{prefix}", f"{prefix}/limited/", 2))
        policies.append(policy(f"spent{prefix}", f"{prefix}/spent/", 99, circuit_breaker=breaker))
    switch = {"scope_key": "header:x-api-key", "scope_value": birds.KILLED_KEY, "reason": "abuse"}
    return {
        "bundle_version": version,
        "policies": policies,
        "kill_switches": [switch],
        "jwt": {"keys": [{"id": "k", "algorithm": "HS256", "secret": birds.HS256_SECRET}]},
    }


def signed(document: object, key: str = birds.SIGNING_KEY) -> str:
    """Return the text of a bundle as the daemon wants it."""
    text = document if isinstance(document, str) else json.dumps(document)
    return sign(key.encode(), text.encode()).decode()


def bad_bundles() -> list[str]:
    """Return texts that must not be loaded, with secrets in the places where they do not belong."""
    good = bundle(2)
    secret = birds.MISPLACED
    jwts: list[object] = [
        secret, [secret], {"keys": secret}, {"keys": [secret]}, {"keys": [{"id": "k"}, secret]},
        {"keys": [{"id": "k", "algorithm": "HS256", "secret": [secret]}]},
        {"keys": [{"id": "k", "algorithm": "RS256", "public_key": secret}]},
        {"keys": [{"id": "k", "algorithm": "HS256", "secret": secret, "public_key": secret}]},
        {"keys": [{"id": "k", "algorithm": "RS256", "secret": secret}]},
    ]  # fmt: skip
    texts = [signed({**good, "jwt": jwt}) for jwt in jwts]
    switch = {"scope_key": "header:x-api-key", "scope_value": [secret]}
    texts.append(signed({**good, "kill_switches": [switch]}))
    texts.append(signed({**good, "jwt_keys": secret}))
    texts.append(signed(json.dumps(good).replace(birds.HS256_SECRET + '"', secret)))  # a quote less
    texts.append(signed(json.dumps(good)[:-30]))
    texts.append(json.dumps(good))  # not signed
    texts.append(signed(good, secret))  # by another key
    return texts


def upstream_answers(target: str) -> list[bytes] | None:
    """Answer with secrets in every way that an upstream can."""
    body = birds.RESPONSE_BODY.encode()
    length = b"Content-Length: %d\r\n" % len(body)
    cookie = b"Set-Cookie: s=%b\r\n" % body
    answers = {
        "e400": [b"HTTP/1.1 400 Bad\r\n" + length + cookie + b"\r\n" + body],
        "e401": [b"HTTP/1.1 401 No\r\nWWW-Authenticate: %b\r\n" % body + length + b"\r\n" + body],
        "e500": [b"HTTP/1.1 500 Oops\r\n" + length + b"\r\n" + body],
        "bad": [b"HTTP/1.1 " + body + b"\r\n\r\n", b""],
        "cut": [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + body, b""],
        "odd": [b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n" + length + b"\r\n" + body],
        "sse": [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
                b"data: %b\n\n" % body, b""],
    }  # fmt: skip
    return next(
        (pieces for name, pieces in answers.items() if f"/{name}" in target),
        [b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body],
    )


@dataclass
class Heard:
    """What came out of a daemon, by the door that it came out of."""

    mode: str
    answers: list[bytes] = field(default_factory=list)
    proxied: list[bytes] = field(default_factory=list)
    admin: list[bytes] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    processes: list[bytes] = field(default_factory=list)
    metrics: list[bytes] = field(default_factory=list)
    log: bytes = b""


class Provoker:
    """Does everything to one daemon, in order."""

    def __init__(self, daemon: Daemon, heard: Heard, wait: Callable[..., None]) -> None:
        self._daemon = daemon
        self._heard = heard
        self._wait = wait
        self._cookie = ""
        self._prefixes = [""]
        if heard.mode in {"wrapper", "hybrid"}:
            self._prefixes = ["/openai", "/anthropic", "/gemini"]
        self._proxies = heard.mode != "decision_service"

    def everything(self) -> None:
        """Provoke."""
        self._log_in()
        for prefix in self._prefixes:
            for path in ("/ok", "/e400", "/e401", "/e500", "/bad", "/cut", "/odd", "/sse"):
                self._ask(f"{prefix}{path}")
            for boom in BOOMS:
                self._ask(f"{prefix}/boom/{boom}")
        for path in ("/limited/x", "/spent/x") * 3:
            self._ask(f"{self._prefixes[0]}{path}")
        if self._heard.mode in {"decision_service", "hybrid"}:
            self._decide()
        self._speak_nonsense()
        self._administer()
        self._look()
        self._kill()
        self._look()

    def _raw(self, text: bytes) -> bytes:
        """Send bytes; return what comes until the daemon closes or has nothing more to say."""
        with self._daemon.connect() as connection:
            with suppress(ConnectionError):
                connection.send(text)
            connection.sock.settimeout(30)
            found: bytes = connection.rest()
            return found

    def _request(self, target: str, authorization: str, **headers: str) -> bytes:
        query = f"token={birds.QUERY_TOKEN}&key={birds.QUERY_KEY}"
        fields = {
            "Host": "edge.test",
            "Authorization": authorization,
            "X-Api-Key": birds.API_KEY,
            "X_Api_Key": birds.API_KEY,
            "Cookie": f"session={birds.COOKIE}; {self._cookie}; more={birds.COOKIE}",
            "X-Fairvisor-Debug-Secret": birds.DEBUG_SECRET,
            "Content-Type": "application/json",
            "TE": "trailers",
            "Connection": "close, X-Hop",
            "X-Hop": "hop-by-hop",
            "Content-Length": str(len(BODY)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"POST {target}?{query} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode() + BODY

    def _credentials(self) -> list[str]:
        found = [f"Bearer {token}" for token in (birds.JWT, birds.FORGED)]
        if self._heard.mode in {"wrapper", "hybrid"}:
            found = [f"{each}:{birds.COMPOSITE_KEY}" for each in found]
            found.append(f"Bearer {birds.JWT}:")
        return [*found, f"Basic {birds.BASIC}"]

    def _ask(self, path: str, **headers: str) -> None:
        for credential in self._credentials():
            answer = self._raw(self._request(path, credential, **headers))
            (self._heard.proxied if self._proxies else self._heard.answers).append(answer)

    def _decide(self) -> None:
        for credential in (f"Bearer {birds.JWT}", f"Bearer {birds.FORGED}", f"Basic {birds.BASIC}"):
            for path in ("/ok", "/limited/x", "/spent/x", *(f"/boom/{boom}" for boom in BOOMS)):
                uri = f"{path}?token={birds.QUERY_TOKEN}&key={birds.QUERY_KEY}"
                request = self._request("/v1/decision", credential, X_Original_URI=uri)
                self._heard.answers.append(self._raw(request))
            killed = self._request("/v1/decision", credential).replace(
                birds.API_KEY.encode(), birds.KILLED_KEY.encode()
            )
            self._heard.answers.append(self._raw(killed))
        for body in (b'{"reservation": "%b"}' % birds.API_KEY.encode(), birds.API_KEY.encode()):
            head = b"POST /v1/settle HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            self._heard.answers.append(self._raw(head + length + body))

    def _log_in(self) -> None:
        for secret in (birds.MISPLACED, birds.DEBUG_SECRET):
            with self._daemon.connect() as connection:
                headers = {"X-Fairvisor-Debug-Secret": secret, "Cookie": birds.COOKIE}
                answer = connection.request("/v1/debug/session", headers, method="POST")
            self._heard.answers.append(repr(answer).encode())
        self._cookie = answer.headers["set-cookie"].partition(";")[0]

    def _speak_nonsense(self) -> None:
        good = self._request("/ok", f"Bearer {birds.JWT}")
        key = birds.API_KEY.encode()
        for text in (
            good.replace(b"HTTP/1.1", b"HTTP/1.7", 1),
            good.replace(b"Host: edge.test\r\n", b""),
            good.replace(b"Host: ", b"Host: " + key + b"@"),
            good.replace(b"X-Api-Key:", b"X-Api-Key :"),
            good.replace(b"Cookie:", b"Cookie\0:"),
            good.replace(b"Content-Length:", b"Expect: %b\r\nContent-Length:" % key),
            good.replace(b"Content-Length:", b"Transfer-Encoding: %b\r\nX-Length:" % key),
            good.replace(b"Content-Length: ", b"Content-Length: x"),
            b"POST http://user:%b@edge.test/ok HTTP/1.1\r\nHost: a\r\n\r\n" % key,
            b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % key,
            b"GET /ok?%b HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (key, key * 2000),
            b"CONNECT %b:443 HTTP/1.1\r\nHost: a\r\n\r\n" % key,
            key + b"\r\n\r\n",
        ):
            self._heard.answers.append(self._raw(text))

    def _administer(self) -> None:
        path = self._daemon.folder / "policy.json"
        headers = {"Authorization": f"Bearer {birds.ADMIN_AUTH}"}

        def call(target: str, method: str = "POST", body: bytes = b"") -> None:
            with self._daemon.connect("admin") as connection:
                answer = connection.request(target, headers, method, body)
            self._heard.admin.append(repr(answer).encode())

        for text in bad_bundles():
            path.write_text(text)
            call("/v1/admin/reload")
        path.write_text(signed(bundle(3)))
        call("/v1/admin/reload")
        assert b'"applied":true' in self._heard.admin[-1], self._heard.admin[-1]
        call("/v1/admin/breakers", "GET")
        for key in (birds.API_KEY, birds.MISPLACED):
            for policy in ("spent", "spent/openai"):
                body = json.dumps({"policy_id": policy, "key": key}).encode()
                call("/v1/admin/breaker/reset", body=body)
        call("/v1/admin/breaker/reset", body=birds.MISPLACED.encode())
        call(f"/v1/admin/{birds.MISPLACED}")

    def _look(self) -> None:
        heard = self._heard
        with self._daemon.connect() as connection:
            heard.metrics.append(connection.request("/metrics").body)
        state = f"--state-dir={self._daemon.folder / 'state'}"
        edge = f"--edge-url=http://127.0.0.1:{self._daemon.port}"
        socket = f"--admin-socket={self._daemon.admin}"
        for command in (("state", "inspect", state), ("state", "inspect", state, "--format=json"),
                        ("state", "export", state), ("status", edge),
                        ("breaker", "list", socket)):  # fmt: skip
            heard.commands.append(_command(*command))
        heard.processes.append(
            subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
        )
        for pid in self._daemon.all_pids():
            with suppress(OSError):
                heard.processes.append(Path(f"/proc/{pid}/environ").read_bytes())

    def _kill(self) -> None:
        """Kill processes, and make a shard fail over a key."""
        for name in ("shard 0", "front 0"):
            before = self._daemon.pids()[name]
            os.kill(before, signal.SIGKILL)
            self._wait(lambda: self._daemon.pids().get(name, before) != before, 30, name)  # noqa: B023 - waited for here
        self._wait(self._alive, 30, "the daemon is well again")
        shard = self._daemon.pids()["shard 0"]
        path = f"{self._prefixes[0]}/ok" if self._proxies else "/v1/decision/ok"
        self._ask(path, X_Api_Key=f"boom-shard-{birds.API_KEY}")

        def replaced() -> bool:
            """Ask for the shard's death as long as it lives: its link may still be down."""
            now = self._daemon.pids().get("shard 0")
            if now == shard:
                self._ask(path, X_Api_Key=f"die-shard-{birds.API_KEY}")
            return now not in {None, shard}

        self._wait(replaced, 30, "another shard")
        self._wait(self._alive, 30, "the daemon is well again")

    def _alive(self) -> bool:
        try:
            with self._daemon.connect() as connection:
                return bool(connection.request("/readyz").status == 200)
        except (OSError, EOFError):
            return False


def _command(*arguments: str) -> bytes:
    ran = CliRunner().invoke(fairvisor, arguments)
    return ran.output_bytes + ran.stderr_bytes


def settings(mode: str, folder: Path, upstream: Upstream) -> dict[str, object]:
    """Return the variables of a daemon, its secrets in files."""
    where = f"http://127.0.0.1:{upstream.port}"
    secrets = {
        "bundle_signing_key": birds.SIGNING_KEY,
        "debug_session_secret": birds.DEBUG_SECRET,
        "upstream_header_x_upstream_key": birds.INJECTED_KEY,
    }
    found: dict[str, object] = {}
    for name, value in secrets.items():
        (folder / name).write_text(value + "\n")
        found[f"{name}_file"] = folder / name
    return found | {
        "mode": mode,
        "log_level": "debug",
        "backend_url": where,
        "llm_format": "openai" if mode == "reverse_proxy" else "",
        "provider_openai_url": where,
        "provider_anthropic_url": "http://127.0.0.1:1",  # nobody is there
        "provider_gemini_url": f"https://127.0.0.1:{upstream.port}",  # does not speak TLS
        "strip_request_headers": "X-Api-Key",
        "header_timeout": 1,
        "file_poll_interval": 3600,
    }
