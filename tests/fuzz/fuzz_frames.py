"""Any bytes on a link: FrameError or an answer that fits in a frame, never anything else.

The first byte says how the rest comes: as it is, in chunks of that many bytes, or (even) as a body
of one frame, so that the fuzzer need not guess lengths.
"""

from contextlib import suppress

from protocol.frames import FrameError, FrameReader, pack
from protocol.operations import RuleSpec
from shard.service import ShardService

_PARAMS: dict[str, dict[str, int | str | bool | None]] = {
    "token_bucket": {"rate_num": 1, "rate_den": 3, "burst": 5_000_000},
    "sliding_window": {"limit": 3_000_000, "window_seconds": 10},
    "cost_based": {"budget": 7_000_000, "period": "1mo", "timezone": "UTC", "settle": "usd"},
    "token_bucket_llm": {"tpm": 60_000_000, "burst": 90_000_000, "tpd": 100_000_000},
    "loop": {"window_seconds": 5, "threshold": 3, "reject": True},
    "breaker": {"threshold": 9_000_000, "auto_reset": 60_000_000},
    "refuse": {},
}
RULES = [
    RuleSpec(kind, f"{shadow} {kind}", int(shadow), shadow, params)  # type: ignore[arg-type]
    for shadow in (False, True)
    for kind, params in _PARAMS.items()
]


def one_input(data: bytes) -> None:
    """Answer everything that can be read."""
    if not data:
        return
    size, rest = data[0], data[1:]
    if size % 2 == 0:
        rest, size = len(rest).to_bytes(4, "little") + rest, 255
    service = ShardService(1 << 20, 60_000_000)
    service.install(1, RULES)
    reader = FrameReader(1 << 16)
    with suppress(FrameError):
        for start in range(0, len(rest), size):
            for message in reader.feed(rest[start : start + size]):
                answer(service, message)


def answer(service: ShardService, message: list[object]) -> None:
    """Answer twice, since the second time finds counters; both must travel back."""
    for _ in range(2):
        reply = service.answer(message)
        if reply is not None:
            (back,) = FrameReader().feed(pack(reply))
            assert len(back) == 2
    service.tidy(1 << 60, 100)
