"""What one program leaves and the next takes: all of it, or a word that says why not."""

import os

import msgspec
import pytest

from daemon.supervisor import handover
from daemon.supervisor.bundles import Loaded
from daemon.supervisor.handover import ActiveBundle, Handover, HandoverError, LeavingFront
from daemon.supervisor.metrics import Totals

BUNDLE = ActiveBundle(
    text=b'{"bundle_version": 3, "policies": [], "expires_at": "2020-01-01T00:00:00Z"}',
    jwks={"k.json": b"{}"},
    generation=7,
    loaded_at="2026-02-02T03:00:00Z",
    table=b"t",
    seen=((1, 2, 3), None),
)
LEFT = Handover(
    bundle=BUNDLE,
    listeners=[5, 6],
    given=True,
    folder="/tmp/fairvisor-1-x",  # noqa: S108 - a name
    meetings=[7],
    lock=8,
    run=9,
    lives=[1, 2],
    secret=b"s",
    fronts=[LeavingFront("front 0", 10, 11, b"\x05")],
    restarts={"front": 2},
)


def test_what_is_left_is_taken_and_only_once() -> None:
    environ = {handover.VARIABLE: str(handover.leave(LEFT))}
    assert handover.take(environ) == LEFT
    assert environ == {}
    assert handover.take(environ) is None


def test_an_older_record_has_fewer_fields() -> None:
    old = msgspec.to_builtins(LEFT)
    for name in ("fronts", "retired", "restarts", "hung"):
        del old[name]
    taken = msgspec.convert(old, Handover)
    assert (taken.fronts, taken.restarts) == ([], {})


@pytest.mark.parametrize("text", [b"", b"\x93\x01\x02\x03", b"no record"])
def test_what_is_no_record_is_refused(text: bytes) -> None:
    fd = os.memfd_create("test")
    os.write(fd, text)
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(HandoverError, match="what the running version leaves cannot be read"):
        handover.take({handover.VARIABLE: str(fd)})


def test_a_descriptor_that_is_not_there() -> None:
    with pytest.raises(HandoverError, match="cannot be read"):
        handover.take({handover.VARIABLE: "999"})


def test_the_bundle_that_serves_is_taken_even_if_it_has_expired() -> None:
    loaded, problems = handover.loaded(BUNDLE, None)
    assert isinstance(loaded, Loaded)
    assert (loaded.bundle.version, loaded.jwks, problems) == (3, {"k.json": b"{}"}, [])


def test_a_bundle_that_the_next_version_does_not_take_is_named() -> None:
    other = msgspec.structs.replace(BUNDLE, text=b'{"bundle_version": 3}')
    loaded, problems = handover.loaded(other, None)
    assert loaded is None
    assert [problem.path for problem in problems] == ["$.policies"]


def test_figures_of_fronts_that_have_ended_go_on() -> None:
    before = Totals()
    before.add([[["decisions_total", ("allow",), 3]], [[("/a", "m"), [1.0, 2.0]]], []])
    left = msgspec.structs.replace(LEFT, retired=before.snapshot())
    taken = handover.take({handover.VARIABLE: str(handover.leave(left))})
    assert taken is not None
    after = Totals()
    after.add(taken.retired)
    assert (after.counts, after.durations) == (before.counts, before.durations)
