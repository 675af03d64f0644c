"""Work that may fail goes no further than itself, and is said once."""

import errno

import pytest

from protocol.housekeeping import Housekeeping


def test_a_failure_is_told_once_and_so_is_its_end() -> None:
    told: list[tuple[str, str]] = []
    housekeeping = Housekeeping(lambda task, why: told.append((task, why)))
    for fault in (None, errno.ENOSPC, errno.ENOSPC, errno.EIO, None, None):
        with housekeeping.task("status"):
            if fault is not None:
                raise OSError(fault, "full" if fault == errno.ENOSPC else "broken")
        assert housekeeping.failing == (
            {} if fault is None else {"status": "full" if fault == errno.ENOSPC else "broken"}
        )
    assert told == [("status", "full"), ("status", "broken"), ("status", "")]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), ValueError()]
)
def test_whatever_runs_out_it_goes_on(error: Exception) -> None:
    housekeeping = Housekeeping()
    with housekeeping.task("work"):
        raise error
    assert housekeeping.failing == {"work": type(error).__name__}


def test_being_stopped_is_no_failure() -> None:
    with pytest.raises(KeyboardInterrupt), Housekeeping().task("work"):
        raise KeyboardInterrupt
