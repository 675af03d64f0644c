"""When a transfer counts as standing still."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.wire.progress import SLOWEST, WINDOW, Patience

ENOUGH = int(SLOWEST * WINDOW)


@given(st.lists(st.tuples(st.floats(0.01, WINDOW), st.integers(0, 2 * ENOUGH)), max_size=30))
def test_who_is_given_up_moved_too_little_in_some_window(steps: list[tuple[float, int]]) -> None:
    patience, now = Patience.beginning(0.0, WINDOW, 1 << 40), 0.0
    came: list[tuple[float, int]] = []
    for pause, size in steps:
        now += pause
        if patience.spent(now):
            windows = range(int(now / WINDOW) + 1)
            ends = [now - WINDOW * number for number in windows]
            moved = [sum(n for at, n in came if end - WINDOW < at <= end) for end in ends]
            assert min(moved) < ENOUGH
            return
        came.append((now, size))
        patience.moved(size, now)


@given(st.floats(0, 0.95), st.floats(0.1, 30))
def test_a_trickle_is_given_up(share: float, pause: float) -> None:
    patience, now = Patience.beginning(0.0, WINDOW, 1 << 40), 0.0
    for _ in range(int(WINDOW / (1 - share) / pause) + 2):
        now += pause
        if patience.spent(now):
            break
        patience.moved(int(SLOWEST * share * pause), now)
    else:
        assert patience.spent(now + pause)


def test_a_burst_is_not_saved_up() -> None:
    patience = Patience.beginning(0.0, WINDOW, 1 << 40)
    patience.moved(100 * ENOUGH, 1.0)
    assert not patience.spent(WINDOW)
    assert patience.spent(1.0 + WINDOW)


def test_the_same_bytes_without_end_are_no_progress() -> None:
    patience = Patience.beginning(0.0, WINDOW, ENOUGH)
    now = 0.0
    for _ in range(100):
        now += WINDOW / 2
        patience.moved(ENOUGH // 2, now)
    assert patience.spent(now)
