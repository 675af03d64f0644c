"""A listener holds no more connections than it may, in all and from one address."""

import resource
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.connections import Connection, Connections, Limits, raise_open_files

ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "fe80::1%eth0"])


@given(st.integers(2, 8), st.integers(1, 4), st.lists(ADDRESSES | st.integers(0, 20)))
def test_no_order_of_coming_and_going_goes_beyond_a_limit(
    most: int, an_address: int, moves: list[str | int]
) -> None:
    connections = Connections(Limits(most, an_address))
    here: list[tuple[str, Connection]] = []
    for move in moves:
        if isinstance(move, int):
            if here:
                here.pop(move % len(here))[1].leave()
            continue
        source = move.removeprefix("::ffff:")
        held = Counter(who for who, _ in here)
        place = connections.admit(move)
        assert (place is not None) == (len(here) < most and held[source] < an_address)
        if place is not None:
            here.append((source, place))
    assert len(connections) == len(here)


def test_a_place_is_left_once() -> None:
    connections = Connections(Limits(2, 2))
    first, second = connections.admit("10.0.0.1"), connections.admit("10.0.0.1")
    assert first is not None
    assert second is not None
    first.leave()
    first.leave()
    assert len(connections) == 1


def test_one_network_of_64_bits_counts_as_one_address() -> None:
    connections = Connections(Limits(9, 2))
    assert connections.admit("2001:db8::1")
    assert connections.admit("2001:db8::ffff:1")
    assert connections.admit("2001:db8::2") is None
    assert connections.admit("2001:db8:0:1::2")


@pytest.mark.parametrize(
    ("wanted", "open_files", "most"),
    [(2048, 1024, 768), (2048, 1 << 20, 2048), (2048, 8, 6), (64, resource.RLIM_INFINITY, 64)],
)
def test_limits_leave_files_for_everything_else(wanted: int, open_files: int, most: int) -> None:
    limits = Limits.fitting(wanted, open_files)
    assert limits == Limits(most, most // 2)


def test_the_soft_limit_of_open_files_becomes_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
        assert raise_open_files() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
