"""Faults with a secret in their text, put into the daemon's processes by `sitecustomize`.

What a target or key asks for fails as the worst exception would: it quotes all that it was given.
"""

from pathlib import Path

MODULE = """\
import sys


def boom(*quoted):
    raise ValueError("sabotage: " + repr(quoted))

if "daemon.front" in sys.orig_argv:
    from daemon.engine.engine import Engine
    from daemon.front.app import App
    from daemon.front.http1 import HttpConnection
    from daemon.front import recorder
    from daemon.front.proxy.app import ProxyApp
    from daemon.front.proxy.relay import Relay

    def wrapped(owner, name, sign, quote):
        inner = getattr(owner, name)
        def outer(*given, **named):
            if sign(*given):
                boom(*quote(*given))
            return inner(*given, **named)
        setattr(owner, name, outer)

    def everything(_self, request, *_):
        return request.headers, request.body, request.query, request.path

    wrapped(Engine, "begin", lambda _, request, *__: request.path.endswith("/boom/begin"),
            everything)
    wrapped(Engine, "finish", lambda _, e: e.context.request.path.endswith("/boom/finish"),
            lambda _, e: everything(_, e.context.request))
    for app in (App, ProxyApp):
        wrapped(app, "handle", lambda _, __, inbound: b"/boom/handle" in inbound.target,
                lambda _, __, inbound: (inbound.headers, inbound.body, inbound.target))
    wrapped(Relay, "_asked", lambda self, *_: b"/boom/asked" in self._inbound.target,
            lambda self, *_: (self._inbound.headers, self._inbound.body))
    wrapped(HttpConnection, "data_received", lambda _, data: b"/boom/data" in data,
            lambda _, data: (data,))
    wrapped(recorder, "decision_record",
            lambda decided: decided.request.path.endswith("/boom/record"),
            lambda decided: everything(None, decided.request))

if "shard" in sys.orig_argv:
    from shard.service import ShardService
    answer = ShardService.answer
    def failing(self, frame, *rest):
        if "boom-shard" in repr(frame):
            boom(frame)  # taken for a malformed frame
        if "die-shard" in repr(frame):
            raise RuntimeError(repr(frame))
        return answer(self, frame, *rest)
    ShardService.answer = failing
"""


def sabotaged(folder: Path) -> Path:
    """Return a folder that brings the faults into every Python that has it on its path."""
    (folder / "sitecustomize.py").write_text(MODULE)
    return folder
