"""Large bodies over lines that are slow or break: nothing that was acknowledged is sent twice."""

import asyncio
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from client.transport import object_transfer, pace
from client.transport.fleet_connection import FleetConnection
from protocol.errors import WardroundError
from protocol.wire.flower_encoding import InlineContent
from protocol.wire.messages import Frame
from server.transport import gateway
from server.transport.link_state import Exchange
from server.transport.upload_slots import UploadSlots
from tests.narrowing import present
from tests.server.transport.live_superlink import Answers, Door, open_door
from tests.waiting import HUNG, NEVER

KB, MB = 1 << 10, 1 << 20
BODY = [bytes([n]) * MB for n in range(6)]
SIZE = sum(map(len, BODY))
SOON = 30.0
"""Seconds after which a loop that nothing else uses counts as hung."""


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path, grace=NEVER) as opened:
        opened.register("north", "south")
        yield opened


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a line of 32 kB a second."""
    monkeypatch.setattr(pace, "LARGEST", 64 * KB)


class Cuts:
    """Lets a method of the coordinator run, and breaks the site's connections after some calls,
    before the coordinator answers the last of them."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        owner: object,
        name: str,
        site: FleetConnection,
        every: int,
        cut: Callable[[FleetConnection], None] | None = None,
    ) -> None:
        self.calls: list[tuple[tuple[Any, ...], Any]] = []
        """Arguments and what was returned."""
        self.broken = 0
        method: Callable[..., Any] = getattr(owner, name)

        def cutting(*args: Any) -> Any:
            result = method(*args)
            self.calls.append((args, result))
            if len(self.calls) % every == 0 and self.broken < 5:
                self.broken += 1
                (cut or break_lines)(site)
            return result

        patch.setattr(owner, name, cutting)


def break_lines(site: FleetConnection) -> None:
    for line in site._all_lines:
        if line._socket is not None:
            with suppress(OSError):  # it may be closed already
                socket.socket.shutdown(line._socket, socket.SHUT_RDWR)


def end(site: FleetConnection) -> None:
    """As if its process were killed."""
    site.close()
    for line in site._all_lines:
        line.interrupt()


def ask(door: Door, frame: Frame, *names: str) -> tuple[threading.Thread, Answers]:
    """A question on its way to sites, and where their answers will be, bodies read."""
    result: Answers = []

    def asking() -> None:
        for name, answer in door.link.ask(dict.fromkeys(names, frame), NEVER):
            read = None if answer is None else Frame(answer.header, [bytes(p) for p in answer.body])
            result.append((name, read))

    thread = threading.Thread(target=asking, daemon=True)
    thread.start()
    return thread, result


def size(answers: Answers) -> dict[str, int | None]:
    return {n: None if f is None else sum(len(part) for part in f.body) for n, f in answers}


def test_an_answer_goes_on_after_every_break(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    with door.connection("north") as site:
        site.connect()
        stored = Cuts(monkeypatch, door.link._state, "store_part", site, every=9)
        thread, result = ask(door, Frame(b"{}"), "north")
        assert site.reply(present(site.receive(HUNG)), Frame(b"{}", BODY))
        thread.join(HUNG)
    assert size(result) == {"north": SIZE}
    assert present(result[0][1]).body == chunks_of(BODY)
    assert stored.broken == 5
    # (run, session, object, offset, size, part): a part that was under way may come once more.
    moved = sum(len(arguments[5]) for arguments, _ in stored.calls)
    assert moved <= SIZE + 5 * 3 * 64 * KB + 6 * KB


def chunks_of(body: list[bytes]) -> list[bytes]:
    whole = b"".join(body)
    return [whole[start : start + 2 * MB] for start in range(0, len(whole), 2 * MB)]


def test_a_question_goes_on_after_every_break(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    with door.connection("north") as site:
        site.connect()
        served = Cuts(monkeypatch, door.link._gateway, "_part", site, every=9)
        thread, result = ask(door, Frame(b"{}", BODY), "north")
        asked = None
        while asked is None:
            asked = site.receive(HUNG)
        assert [bytes(part) for part in asked.frame.body] == chunks_of(BODY)
        assert site.reply(asked, Frame(b"{}"))
        thread.join(HUNG)
    assert size(result) == {"north": 0}
    assert served.broken == 5
    moved = sum(len(part) for _, part in served.calls)
    assert moved <= SIZE + 5 * 3 * 64 * KB + 6 * KB


def test_a_new_process_of_the_site_goes_on_where_the_old_one_was_killed(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = door.connection("north")
    old.connect()
    stored = Cuts(monkeypatch, door.link._state, "store_part", old, every=20, cut=end)
    thread, result = ask(door, Frame(b"{}"), "north")
    asked = present(old.receive(HUNG))
    with pytest.raises(WardroundError):
        old.reply(asked, Frame(b"{}", BODY))
    held = sum(ex.held for ex in door.link._state._exchanges.values())
    before = len(stored.calls)
    assert held >= 20 * 64 * KB
    with door.connection("north") as new:
        again = None
        while again is None:  # the coordinator may count the old process as connected
            again = new.receive(HUNG)
        assert again.message_id == asked.message_id
        assert new.reply(again, Frame(b"{}", BODY))
        thread.join(HUNG)
    assert size(result) == {"north": SIZE}
    moved = sum(len(arguments[5]) for arguments, _ in stored.calls[before:])
    assert moved <= SIZE - held + 6 * KB
    assert door.objects_held() == 0


def test_a_model_that_is_sent_once_more_is_not_downloaded_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For another attempt at its round; what is new travels."""
    with door.connection("north") as site:
        site.connect()
        served = Cuts(monkeypatch, door.link._gateway, "_part", site, every=10**9)
        moved = []
        for body in (BODY, BODY, [*BODY, b"new" * MB]):
            served.calls.clear()
            thread, _ = ask(door, Frame(b"{}", body), "north")
            asked = present(site.receive(HUNG))
            assert [bytes(part) for part in asked.frame.body] == chunks_of(body)
            assert site.reply(asked, Frame(b"{}"))
            thread.join(HUNG)
            moved.append(sum(len(part) for _, part in served.calls) // MB)
    assert moved == [6, 0, 3]


@pytest.mark.parametrize("side", [gateway, object_transfer])
def test_a_release_that_knows_no_parts_moves_whole_objects(
    door: Door, monkeypatch: pytest.MonkeyPatch, side: Any
) -> None:
    for name in ("PART", "HELD"):
        monkeypatch.setattr(side, name, "wardround-unheard-of")
    with door.connection("north") as site:
        site.connect()
        thread, result = ask(door, Frame(b"{}", BODY), "north")
        asked = present(site.receive(HUNG))
        assert [bytes(part) for part in asked.frame.body] == chunks_of(BODY)
        assert site.reply(asked, Frame(b"{}", BODY))
        thread.join(HUNG)
    assert size(result) == {"north": SIZE}


def test_an_answer_that_moves_is_waited_for_beyond_the_questions_time(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    with door.connection("north") as site:
        site.connect()
        store = door.link._state.store_part
        overdue, looked = threading.Event(), threading.Event()
        given_up = Exchange.given_up

        def looking(exchange: Exchange, now: float, absent: bool) -> bool:
            found = given_up(exchange, now, absent)
            if overdue.is_set():
                looked.set()
            return found

        def storing(*arguments: Any) -> tuple[bool, int]:
            [exchange] = door.link._state._exchanges.values()
            exchange.deadline = 0.0
            message = door.link._state.message_ins_store.get(exchange.message_id)
            if message is not None:
                message.metadata.ttl = 0.001
            if not overdue.is_set():
                overdue.set()
                assert looked.wait(HUNG), "the coordinator looks now and then whom to give up"
                break_lines(site)
            return store(*arguments)

        monkeypatch.setattr(door.link._state, "store_part", storing)
        monkeypatch.setattr(Exchange, "given_up", looking)
        thread, result = ask(door, Frame(b"{}"), "north")
        assert site.reply(present(site.receive(HUNG)), Frame(b"{}", BODY))
        thread.join(HUNG)
    assert looked.is_set()
    assert size(result) == {"north": SIZE}


def test_a_slow_site_holds_no_other_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer to come stands still until the other one is there."""
    with open_door(tmp_path, patience=0.05) as door:
        door.register("north", "south")
        store, answered = door.link._state.store_part, threading.Event()
        slow: list[str] = []

        def storing(run_id: int, session_id: str, *rest: Any) -> tuple[bool, int]:
            name = present(door.link._state.exchange_of_session(session_id)).name
            slow.append(name)
            if name == slow[0]:
                assert answered.wait(HUNG)
            return store(run_id, session_id, *rest)

        monkeypatch.setattr(door.link._state, "store_part", storing)
        with door.connection("north") as north, door.connection("south") as south:
            threads = [threading.Thread(target=reply, args=(site,)) for site in (north, south)]
            for site, thread in zip((north, south), threads, strict=True):
                site.connect()
                thread.start()
            order = []
            for name, frame in door.link.ask(
                dict.fromkeys(("north", "south"), Frame(b"{}")), NEVER
            ):
                assert frame is not None
                order.append(name)
                answered.set()
            for thread in threads:
                thread.join(HUNG)
        assert order[1] == slow[0]


def reply(site: FleetConnection) -> None:
    site.reply(present(site.receive(HUNG)), Frame(b"{}", BODY))


def exchange(node: int = 1, objects: int = 1) -> Exchange:
    """With a reply of so many objects of 2 MiB announced, and some room around them."""
    made = Exchange("north", node, 1, "0", queue.SimpleQueue(), 1.0, 1.0, 60.0, {"a": MB})
    made.reply_id, made.expected = "1", frozenset(map(str, range(objects)))
    made.inline = InlineContent(b"{}", b"", tuple(made.expected))
    return made


async def granted(slots: UploadSlots, waiting: Exchange) -> bool:
    """Whether it gets a slot at all."""
    try:
        async with asyncio.timeout(SOON):
            return await slots.acquire(waiting)
    except TimeoutError:
        return False


def test_late_answers_go_on_beside_the_slots_while_there_is_room() -> None:
    async def play() -> list[bool]:
        slots = UploadSlots(1, room=3 * exchange().largest, patience=0.001)
        for node in range(4):  # three beside, the fourth in the slot
            assert await granted(slots, exchange(node))
        fifth = asyncio.ensure_future(slots.acquire(exchange(5)))
        await asyncio.sleep(0.05)
        waits = not fifth.done()
        [first] = slots.admitted(0)
        slots.release(first)
        async with asyncio.timeout(SOON):
            return [waits, await fifth]

    assert asyncio.run(play()) == [True, True]


def test_one_site_gets_half_of_the_room_at_most() -> None:
    async def play() -> bool:
        slots = UploadSlots(1, room=4 * exchange().largest, patience=0.001)
        for _ in range(3):  # two beside, the third in the slot
            assert await granted(slots, exchange(1))
        another = asyncio.ensure_future(slots.acquire(exchange(1)))
        await asyncio.sleep(0.05)
        return another.done()

    assert asyncio.run(play()) is False


def test_whom_a_coordinator_gives_up() -> None:
    made = exchange()
    made.reply_id = ""
    assert made.given_up(1.1, absent=False), "no answer in time"
    assert made.given_up(0.5, absent=True), "gone"
    made.fetched("a", 10)
    now = time.monotonic()
    assert not made.given_up(now + 1, absent=True), "its question is on its way"
    assert made.given_up(now + 61, absent=False), "and stands still"
    made.confirmed()
    assert not made.given_up(now + 0.5, absent=False), "its time begins when the question is there"
    assert made.given_up(now + 61, absent=False)


def test_who_fetches_the_same_question_without_end_is_given_up() -> None:
    made = exchange()
    made.reply_id = ""
    for _ in range(10):
        made.fetched("a", MB)
    assert present(made.transfer).max_bytes == 0


def test_an_announced_answer_is_asked_for_again_or_given_up() -> None:
    made = exchange()
    made.called = 100.0
    assert not made.given_up(150.0, absent=False), "others' answers stand before it"
    assert made.given_up(161.0, absent=False), "it asked no more"
    assert made.given_up(150.0, absent=True)


def test_a_site_has_so_many_large_bodies_on_their_way_at_most(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_BODIES", 0)
    with door.connection("north") as site:
        site.connect()
        thread, result = ask(door, Frame(b"{}"), "north")
        asked = present(site.receive(HUNG))
        asked.metadata.ttl = 0.0
        with pytest.raises(WardroundError):
            site.reply(asked, Frame(b"{}", BODY))
        monkeypatch.setattr(gateway, "_BODIES", 8)
        assert site.reply(asked, Frame(b"{}", BODY))
        thread.join(HUNG)
    assert size(result) == {"north": SIZE}
