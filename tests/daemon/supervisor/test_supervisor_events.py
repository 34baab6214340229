"""Events of the daemon as a whole (§19)."""

from daemon.supervisor import events
from daemon.supervisor.events import Overrides
from protocol.bundle import MICRO, Bundle, Override, Problem

NOW = 1_770_000_000
LATER = NOW + 600


def bundle(**blocks: Override) -> Bundle:
    return Bundle(version=7, policies=(), hash="sha256:x", **blocks)  # type: ignore[arg-type]  # override blocks only


def look(overrides: Overrides, found: Bundle, at: int = NOW) -> list[tuple[object, object]]:
    return [(each["event"], each["override"]) for each in overrides.look(found, at * MICRO)]


def test_a_block_begins_once_and_ends_by_itself_once() -> None:
    overrides = Overrides()
    found = bundle(global_shadow=Override("incident 7", LATER))
    assert overrides.look(found, NOW * MICRO) == [
        {
            "time": "2026-02-02T02:40:00.000Z",
            "event": "override_active",
            "bundle_version": 7,
            "bundle_hash": "sha256:x",
            "override": "global_shadow",
            "override_reason": "incident 7",
            "expires_at": "2026-02-02T02:50:00.000Z",
        }
    ]
    assert overrides.next_end() == LATER
    assert look(overrides, found, LATER - 1) == []
    (ended,) = overrides.look(found, LATER * MICRO)
    assert (ended["event"], ended["cause"]) == ("override_ended", "expired")
    assert ended["override_reason"] == "incident 7"
    assert look(overrides, found, LATER + 1) == []
    assert overrides.next_end() is None


def test_a_bundle_without_the_block_ends_it() -> None:
    overrides = Overrides()
    overrides.look(bundle(kill_switch_override=Override("r", LATER)), NOW * MICRO)
    (ended,) = overrides.look(bundle(), NOW * MICRO)
    assert (ended["event"], ended["override"], ended["cause"]) == (
        "override_ended",
        "kill_switch_override",
        "removed",
    )


def test_a_block_that_is_prolonged_begins_anew_and_does_not_end() -> None:
    overrides = Overrides()
    overrides.look(bundle(global_shadow=Override("r", LATER)), NOW * MICRO)
    longer = bundle(global_shadow=Override("r", LATER + 600))
    assert look(overrides, longer) == [("override_active", "global_shadow")]
    assert look(overrides, longer, LATER) == []


def test_both_blocks_are_apart_and_the_first_end_is_next() -> None:
    overrides = Overrides()
    both = bundle(global_shadow=Override("r", LATER), kill_switch_override=Override("s", NOW + 5))
    assert len(look(overrides, both)) == 2
    assert overrides.next_end() == NOW + 5
    assert look(overrides, both, NOW + 5) == [("override_ended", "kill_switch_override")]


def test_a_rejected_bundle_names_its_first_problems_and_the_one_that_serves() -> None:
    problems = [Problem(f"$.policies[{number}]", "no") for number in range(99)]
    event = events.bundle_rejected(bundle(), problems, NOW * MICRO)
    assert event["bundle_version"] == 7
    assert event["errors"][0] == {"path": "$.policies[0]", "message": "no"}  # type: ignore[index]
    assert len(event["errors"]) == events.MAX_PROBLEMS  # type: ignore[arg-type]
