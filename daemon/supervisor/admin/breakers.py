"""Circuit breakers for operators: which are open, and closing them by hand (§5.8, §17).

A breaker's key is a value that clients sent. It is shown as decision records show it: a credential
as a keyed digest, and one that is too long to be kept as the digest that is kept. What is shown can
be given back as the key to reset.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.engine.disclosure import HASHED, shown
from daemon.engine.record import Record, timestamp
from daemon.supervisor import events
from daemon.supervisor.admin.questions import Questions
from daemon.supervisor.reload import Generation
from daemon.supervisor.safeguards import Breaker
from protocol import control
from protocol.operations import Key
from protocol.placement import MOST_KEY_CHARS, key_digest

log = logging.getLogger("fairvisor")

DIGEST = "digest:"
_DIGEST_CHARS = 32


class UnknownPolicyError(LookupError):
    """The active bundle has no policy of that id."""


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """One open breaker; times in microseconds since the epoch, `resets` None for by hand only."""

    breaker: Breaker
    key: Key
    opened: int
    resets: int | None


class BreakerDesk:
    """Lists and resets breakers through the shards that own them."""

    def __init__(
        self,
        questions: Questions,
        active: Callable[[], Generation],
        secret: bytes,
        report: Callable[[Record], None],
    ) -> None:
        self._questions = questions
        self._active = active
        self._secret = secret
        self._report = report
        # One at a time: a reset of everything is work for the shards, and fronts wait for them.
        self._turn = asyncio.Lock()

    async def document(self) -> tuple[list[dict[str, object]], bool]:
        """Return the open breakers, oldest first, and whether there are more than are told.

        Raises:
            NoAnswerError: a shard does not answer.
        """
        found, more = await self._open()
        found.sort(key=lambda each: (each.opened, each.breaker.policy_id, str(each.key)))
        return [self._row(each) for each in found], more

    async def reset(self, policy_id: str, key: str | None) -> int:
        """Reset a policy's breakers, or the one of a key; return how many were open.

        Raises:
            UnknownPolicyError: there is no such policy.
            NoAnswerError: a shard does not answer; what it owns may be open still.
        """
        active = self._active()
        bundle = active.loaded.bundle
        if all(policy.id != policy_id for policy in bundle.policies):
            raise UnknownPolicyError
        own = {i: each for i, each in active.breakers.items() if each.policy_id == policy_id}
        closed = 0
        async with self._turn:
            if own:
                keys = None if key is None else await self._keys(policy_id, key)
                counts = await self._questions.ask(control.RESET, list(own), keys)
                closed = sum(count for count in counts if isinstance(count, int))
        scope = self._scope(next(iter(own.values()), None), key)
        whose = "all keys" if scope is None else repr(scope)
        log.info("breakers of policy %r reset by hand, %s: %d open", policy_id, whose, closed)
        now = time.time_ns() // 1000
        self._report(
            events.breaker_reset(bundle, now, policy_id=policy_id, scope=scope, closed=closed)
        )
        return closed

    async def _open(self) -> tuple[list[OpenBreaker], bool]:
        known = self._active().breakers
        answers: Sequence[Any] = await self._questions.ask(control.BREAKERS)
        found = [
            OpenBreaker(known[identity], key, opened, resets)
            for rows, _ in answers
            for identity, key, opened, resets in rows
            if identity in known
        ]
        return found, any(more for _, more in answers)

    async def _keys(self, policy_id: str, key: str) -> list[Key]:
        """Return the counter keys that an operator may mean: the value itself, or as shown."""
        keys: list[Key] = [key, key_digest(key)]
        digest = key.removeprefix(DIGEST)
        if digest != key and len(digest) == _DIGEST_CHARS:
            try:
                keys.append(bytes.fromhex(digest))
            except ValueError:
                return keys
        if key.startswith(HASHED):
            found, _ = await self._open()
            keys += {
                each.key
                for each in found
                if each.breaker.policy_id == policy_id and self._shown(each) == key
            }
        return keys

    def _row(self, each: OpenBreaker) -> dict[str, object]:
        return {
            "policy": each.breaker.policy_id,
            "key": self._shown(each),
            "opened_at": timestamp(each.opened),
            "resets_at": None if each.resets is None else timestamp(each.resets),
            "limit_key": each.breaker.scope or None,
            "mode": each.breaker.mode,
        }

    def _shown(self, each: OpenBreaker) -> str:
        if isinstance(each.key, bytes):
            return DIGEST + each.key.hex()
        return shown(each.breaker.scope, each.key, self._secret, MOST_KEY_CHARS)

    def _scope(self, breaker: Breaker | None, key: str | None) -> str | None:
        """Return what was reset as records say it; None for all."""
        if key is None:
            return None
        scope = breaker.scope if breaker else ""
        told = key if key.startswith((HASHED, DIGEST)) else shown(scope, key, self._secret)
        return f"{scope}={told[:256]}"
