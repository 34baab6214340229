import math

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from protocol.usage import MAX_TOKENS, Usage, whole_tokens

counts = st.integers(0, MAX_TOKENS)
usages = st.builds(
    Usage,
    st.none() | counts,
    st.none() | counts,
    *([counts] * (len(Usage.__struct_fields__) - 2)),
)


@given(usages)
def test_survives_the_wire(usage: Usage) -> None:
    assert Usage.from_wire(msgpack.unpackb(msgpack.packb(usage.to_wire()))) == usage


def test_tokens_are_whole_and_believable() -> None:
    assert whole_tokens(0) == 0
    assert whole_tokens(1.2) == 2
    odd: list[object] = [-1, -0.5, True, "1", None, [], math.inf, math.nan, 1e300, MAX_TOKENS + 1]
    for value in odd:
        assert whole_tokens(value) is None
