"""Nothing that is a secret is seen where it does not belong, whatever goes wrong."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import birds
from tests.canaries.sabotage import sabotaged
from tests.canaries.stage import MODES, Heard, Provoker, bundle, settings, signed, upstream_answers
from tests.e2e.conftest import _starter, wait_for
from tests.smuggling.wire import Kept, Upstream, running

TOKENS = {"JWT_PAYLOAD", "JWT_SIGNATURE", "FORGED_PAYLOAD", "FORGED_SIGNATURE"}


TLS = b"\x16\x03"
"""How a client of TLS begins."""


@pytest.mark.parametrize("mode", MODES)
def test_nobody_sees_a_secret_that_is_not_theirs(mode: str, tmp_path: Path) -> None:
    heard = Heard(mode)
    with ExitStack() as stack, running(Upstream(upstream_answers)) as upstream:
        serve: Callable[..., Any] = _starter(stack)
        about = settings(mode, tmp_path, upstream)
        state = tmp_path / "state"
        daemon = serve(signed(bundle()), python_path=sabotaged(tmp_path), state_dir=state, **about)
        (daemon.folder / "state").symlink_to(state)
        Provoker(daemon, heard, wait_for).everything()
        daemon.stop()
        heard.log = daemon.log.read_bytes()
        damage(state / "counters.db")
        again = serve(signed(bundle(4)), state_dir=state, **about)
        again.stop()
        heard.log += again.log.read_bytes()
    everything_went_wrong(heard, upstream.kept)
    the_daemon_shows_none(heard)
    answers_show_what_the_upstream_said(heard)
    upstreams_get_what_is_theirs(mode, upstream.kept)


def damage(path: Path) -> None:
    """Write over a part of a file that has counters in it."""
    content = bytearray(path.read_bytes())
    assert len(content) > 8192
    content[4096:6144] = b"canary-damage" + bytes(2035)
    path.write_bytes(content)


def everything_went_wrong(heard: Heard, upstream: list[Kept]) -> None:
    for words in (b"bundle_rejected", b"bundle_applied", b"(SIGKILL)", b"a request could not be",
                  b"ValueError that nobody has foreseen", b"link dropped: ValueError",
                  b"shard 0 failed: RuntimeError", b"counters.db", b"damaged", b"hashed:",
                  b'"reason":"rate_limit_exceeded"',
                  b'"reason":"circuit_breaker_open"'):  # fmt: skip
        assert words in heard.log, words
    assert b"hashed:" in b"".join(heard.commands)
    assert b"fairvisor_decisions_total" in heard.metrics[0]
    assert len(heard.processes) >= 8
    assert len([seen for kept in upstream for seen in kept.seen]) >= (
        0 if heard.mode == "decision_service" else 10
    )


def the_daemon_shows_none(heard: Heard) -> None:
    assert birds.seen_in(heard.log) == []
    assert b"Traceback" not in heard.log
    for pieces in (heard.metrics, heard.admin, heard.commands, heard.processes):
        assert birds.seen_in(b"".join(pieces)) == []


def answers_show_what_the_upstream_said(heard: Heard) -> None:
    told = set() if heard.mode == "decision_service" else {"RESPONSE_BODY"}
    assert birds.seen_in(b"".join(heard.answers + heard.proxied), allowed=told) == []


def upstreams_get_what_is_theirs(mode: str, upstream: list[Kept]) -> None:
    composite = mode in {"wrapper", "hybrid"}
    given = {"INJECTED_KEY", "BASIC", "COOKIE", "QUERY_TOKEN", "QUERY_KEY", "REQUEST_BODY"}
    given |= {"COMPOSITE_KEY"} if composite else TOKENS
    for kept in upstream:
        assert birds.seen_in(kept.raw, allowed=given) == []
        assert kept.faults == [] or kept.raw.startswith(TLS)
        for head in kept.heads:
            a_head_is_clean(head, composite=composite)


def a_head_is_clean(head: list[tuple[bytes, bytes]], *, composite: bool) -> None:
    fields = [(name.lower().replace(b"_", b"-"), value) for name, value in head]
    names = [name for name, _ in fields]
    assert b"fv_dbg" not in b" ".join(value for _, value in fields)
    assert not [name for name in names if name.startswith(b"x-fairvisor-")]
    assert not {b"te", b"connection", b"x-hop", b"keep-alive", b"x-api-key"} & set(names)
    assert names.count(b"x-forwarded-for") == 1
    keys = (birds.INJECTED_KEY.encode(), birds.COMPOSITE_KEY.encode())
    holders = {name for name, value in fields if any(key in value for key in keys)}
    assert holders == {b"x-upstream-key"} | ({b"authorization"} if composite else set())
    if composite:
        assert dict(fields)[b"authorization"] == b"Bearer " + birds.COMPOSITE_KEY.encode()


def test_the_canaries_would_be_heard() -> None:
    """A search that finds nothing in anything would pass, too."""
    for name, value in birds.ALL.items():
        for text in birds.spellings(value):
            assert birds.seen_in(b"before " + text + b" after") == [name]
            assert birds.seen_in(b"before " + text + b" after", allowed={name}) == []
