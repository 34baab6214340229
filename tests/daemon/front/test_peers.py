"""Connections counted by peer: who is one peer, and that nobody is remembered who is gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.front.peers import PeerCounts, whose


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_who_is_one_peer(one: str, other: str, *, same: bool) -> None:
    assert (whose(one) == whose(other)) is same


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "c"]))))
def test_no_peer_has_more_than_its_limit_and_none_is_remembered_for_ever(
    steps: list[tuple[bool, str]],
) -> None:
    counts = PeerCounts(2)
    inside: list[str | bytes] = []
    for enters, peer in steps:
        if enters:
            who = counts.enter(peer)
            assert (who is None) is (inside.count(peer) == 2)
            if who is not None:
                inside.append(who)
        elif peer in inside:
            inside.remove(peer)
            counts.leave(peer)
    for who in inside:
        counts.leave(who)
    assert len(counts) == 0
