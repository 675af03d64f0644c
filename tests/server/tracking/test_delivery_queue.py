"""Jobs go in order, are tried again while the other side is away, and never stop at a refusal."""

from __future__ import annotations

import threading

from server.tracking.delivery_queue import DeliveryQueue, Job, ServerAwayError
from tests.waiting import HUNG, NEVER


def test_an_away_side_is_tried_again_in_order_and_a_refusal_left_behind() -> None:
    done: list[str] = []
    tries = iter([ServerAwayError("status 503"), ServerAwayError("status 503")])

    def away_twice() -> None:
        if error := next(tries, None):
            raise error
        done.append("first")

    def refused() -> None:
        raise ValueError("never")

    courier = DeliveryQueue("test", pause=0.01)
    courier.put(Job("first", away_twice))
    courier.put(Job("second", refused))
    courier.put(Job("third", lambda: done.append("third")))
    assert courier.wait(HUNG)
    assert done == ["first", "third"]
    assert courier.missing == ("second",)
    courier.stop()


def test_what_hangs_holds_nobody_up_and_is_named() -> None:
    """All of it while the job hangs: it ends only when it is let go."""
    begun, let_go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        let_go.wait()

    courier = DeliveryQueue("test")
    courier.put(Job("slow", slow))
    assert begun.wait(HUNG)
    courier.put(Job("behind", lambda: None))
    assert not courier.wait(0.05)
    assert courier.wait_or_trouble(0.05) == "no answer"
    courier.stop()
    assert courier.missing == ("slow", "behind")
    let_go.set()


def test_what_goes_first_waits_only_for_what_is_being_delivered() -> None:
    done: list[str] = []
    begun, let_go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        let_go.wait()
        done.append("slow")

    courier = DeliveryQueue("test")
    courier.put(Job("slow", slow))
    assert begun.wait(HUNG)
    courier.put(Job("waiting", lambda: done.append("waiting")))
    courier.put(Job("urgent", lambda: done.append("urgent")), first=True)
    let_go.set()
    assert courier.wait(HUNG)
    assert done == ["slow", "urgent", "waiting"]
    courier.stop()


def test_trouble_is_told_before_time_is_up() -> None:
    def away() -> None:
        raise ServerAwayError("status 503")

    courier = DeliveryQueue("test", pause=0.01)
    courier.put(Job("run", away))
    assert courier.wait_or_trouble(NEVER) == "away: status 503"
    courier.stop()
