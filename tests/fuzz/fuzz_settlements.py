"""Any body of a settlement: what to settle, or why not in words; it travels to a shard."""

from daemon.engine.settlement import SettlementError, read_settlement
from protocol.frames import SETTLE, FrameReader, pack
from protocol.usage import Usage

_MAX_TEXT = 500


def one_input(data: bytes) -> None:
    """Read it; what is read must travel and come back as it is."""
    settlement = None
    why = ""
    try:
        settlement = read_settlement(data)
    except SettlementError as error:
        why = str(error)
    assert bool(why) == (settlement is None)
    assert len(why) < _MAX_TEXT
    if settlement is None:
        return
    assert len(settlement.reservation) in {0, 16}  # none: nobody's
    usage = settlement.usage
    wire = None if usage is None else usage.to_wire()
    message = [SETTLE, 5, [[settlement.reservation, wire]]]
    (back,) = FrameReader().feed(pack(message))
    if usage is not None:
        assert usage.total >= -1
        read = Usage.from_wire(back[2][0][1])  # type: ignore[index]
        assert read.total == min(usage.total, 2**64 - 1)
