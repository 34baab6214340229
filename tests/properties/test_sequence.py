"""Engine and shards against the specification, one request after the other.

One shard, three shards and the reference get the same requests, settlements, reloads and time.
Every answer must be the same, and after every step so must every counter: that a refusal leaves no
trace, anywhere, is part of it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daemon.engine.checks import Check
from daemon.engine.engine import Engine
from daemon.engine.sources import Sources
from daemon.llm.usage import of_counts
from daemon.replay import Replay, request_of
from tests.properties.bundles import (
    START,
    changed,
    compiled,
    documents,
    entry,
    other_limits,
    overrides,
    requests,
)
from tests.properties.profiles import profile
from tests.properties.reading import effective, expected, refill
from tests.properties.reference import Answer, Asked, Json, Reference

MICRO = 1_000_000
STEPS = (1, 250_000, 999_999, 1_000_000, 7_000_000, 30_000_000, 61_000_000, 3_700_000_000)


def sources(shards: int) -> Sources:
    ids = iter(range(1, 1 << 30))
    return Sources(draw_id=lambda: next(ids).to_bytes(16), shards=shards)


class Sequence(RuleBasedStateMachine):
    """One daemon of one shard, one of three, and the reference."""

    @initialize(document=documents(), offset=st.sampled_from([0, 29_999_999, 59_000_000]))
    def start(self, document: Json, offset: int) -> None:
        self.now = START * MICRO + offset
        self.document = document
        self.reference = Reference(document)
        bundle = compiled(document)
        self.replays = [Replay(bundle, sources(shards)) for shards in (1, 3)]
        self.asked = 0

    @rule(several=st.lists(requests(), min_size=1, max_size=4), times=st.sampled_from([1, 1, 3]))
    def ask(self, several: list[Asked], times: int) -> None:
        for asked in several * times:
            wanted = self.reference.decide(self.asked, asked, Fraction(self.now, MICRO))
            for replay in self.replays:
                request = request_of(entry(asked), replay.engine.sources)  # type: ignore[union-attr]
                number, finished = replay.decide(request, self.now)
                assert number == self.asked
                for field in fields(Answer):
                    said = getattr(finished.decision, field.name)
                    meant = getattr(wanted, field.name)
                    if isinstance(meant, Fraction):
                        meant = float(meant)
                    assert said == meant, (field.name, said, meant, finished.decision, wanted)
            self.asked += 1

    @rule(by=st.sampled_from(STEPS))
    def wait(self, by: int) -> None:
        self.now += by

    @precondition(lambda self: self.asked)
    @rule(back=st.integers(0, 5), total=st.sampled_from([None, 0, 3, 8, 60]))
    def settle(self, back: int, total: int | None) -> None:
        open_ones = sorted(self.reference.reservations)
        number = open_ones[-1 - back] if len(open_ones) > back else max(0, self.asked - 1 - back)
        usage = None if total is None else of_counts(None, None, total)
        wanted = self.reference.settle(number, total, Fraction(self.now, MICRO))
        for replay in self.replays:
            assert replay.settle(number, usage, self.now).settled == wanted
            assert not replay.settle(number, usage, self.now).settled

    @rule(data=st.data())
    def new_limits(self, data: st.DataObject) -> None:
        self.load(data.draw(other_limits(self.document)))

    @rule(data=st.data())
    def new_policies(self, data: st.DataObject) -> None:
        self.load(data.draw(changed(self.document)))

    @rule(override=overrides)
    def shadow(self, override: Json) -> None:
        kept = {key: value for key, value in self.document.items() if key != "global_shadow"}
        self.load(kept | override)

    @rule()
    def close_breakers(self) -> None:
        self.reference.reset_breakers()
        for replay in self.replays:
            replay.reset_breakers()

    @rule()
    def sweep(self) -> None:
        for replay in self.replays:
            for shard in replay._shards:
                shard.tidy(self.now, 1 << 20)

    def load(self, document: Json) -> None:
        # Time that nobody has looked at is refilled by the rate and the burst of who looks first,
        # and a full bucket may be forgotten at any time: so all look now.
        for replay in self.replays:
            look(replay, self.now)
        self.sweep()
        refill(self.reference, self.now)
        self.document = document
        self.reference.load(document)
        bundle = compiled(document, now=START - 1)
        for replay in self.replays:
            replay.load(bundle)

    @invariant()
    def same_counters(self) -> None:
        if not hasattr(self, "document"):
            return
        wanted = expected(self.reference, self.now)
        for replay in self.replays:
            found = held(replay, self.now)
            unlike = {
                name: (found.get(name), wanted.get(name))
                for name in found.keys() | wanted.keys()
                if found.get(name) != wanted.get(name)
            }
            assert not unlike, unlike


def look(replay: Replay, now: int) -> None:
    """Bring every bucket to the present, as a charge of nothing would."""
    assert replay.engine is not None
    for shard in replay._shards:
        for table in shard._generations[replay.engine.generation]:
            if table.kind in {"token_bucket", "token_bucket_llm"}:
                for key, state in table.states.items():
                    if state is not None:
                        table.states[key] = table.limiter.undo(state, 0, now, now)


def held(replay: Replay, now: int) -> dict[tuple[object, ...], Any]:
    """Return every counter of the shards that is not fresh, as the reference names it."""
    found: dict[tuple[object, ...], Any] = {}
    engine = replay.engine
    assert engine is not None
    for name, check in named(engine):
        loops: Counter[tuple[int, ...]] = Counter()
        for shard in replay._shards:
            table = shard._generations[engine.generation][check.number]
            for key, state in table.states.items():
                value = effective(check.kind, table.limiter, state, now)
                if value is None:
                    continue
                if check.kind == "loop":
                    loops[value] += 1
                    continue
                assert (*name, key) not in found, "a counter has one owner"
                found[*name, key] = value
        if loops:
            found[name] = loops
    return found


def named(engine: Engine) -> Iterator[tuple[tuple[object, ...], Check]]:
    for policy in {*engine._routes._order, *engine._shadow_routes._order}:
        mode = "shadow" if policy.shadow else "enforce"
        for check in policy.checks:
            yield (mode, policy.id, check.name or check.kind), check


TestSequence = Sequence.TestCase
TestSequence.settings = profile(examples=150, steps=40)
