import gc
import json
import signal
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import GeneratorType, SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supernode.fleet_http_connection import http_request_response
from starlette.types import Receive, Scope, Send

from client.transport import fleet_connection
from client.transport.fleet_connection import FleetConnection
from client.transport.node_key import load_node_key, public_pem
from protocol.errors import Code, WardroundError
from protocol.wire.messages import Frame
from server.transport import fleet_run
from server.transport.link_state import Exchange, ReadOnceChunks
from server.transport.superlink import SuperLink, SuperLinkConfig
from tests.narrowing import instance, present
from tests.server.transport.live_superlink import Answers, Door, open_door
from tests.waiting import HUNG, NEVER, until

FOUR = ("north", "east", "south", "west")
MB = 1 << 20


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Four sites, each a process of its own."""
    with open_door(tmp_path_factory.mktemp("four")) as opened:
        opened.register(*FOUR)
        for name in FOUR:
            opened.launch([name])
        opened.wait_online(*FOUR)
        yield opened


def question(**keys: object) -> Frame:
    return Frame(json.dumps(keys).encode())


def answers(door: Door, frames: dict[str, Frame], timeout: float = NEVER) -> dict[str, Any]:
    """What each site says; None where it says nothing."""
    return {
        name: None if frame is None else json.loads(frame.header)
        for name, frame in door.link.ask(frames, timeout)
    }


def test_every_site_answers_its_own_question(four: Door) -> None:
    got = answers(four, {name: question(to=name) for name in FOUR})
    assert {name: answer["asked"]["to"] for name, answer in got.items()} == {n: n for n in FOUR}
    assert len({answer["pid"] for answer in got.values()}) == 4


def test_no_timer_is_waited_for_and_nobody_polls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer runs out here, so that what comes through was handed on as soon as it was there."""
    monkeypatch.setattr(fleet_connection, "_HOLD", NEVER)
    monkeypatch.setattr(fleet_run, "_CHECK_INTERVAL", NEVER)

    def serve(site: FleetConnection) -> None:
        with site:
            while (delivery := site.receive(NEVER)) is not None:
                site.reply(delivery, delivery.frame)

    with open_door(tmp_path, hold=NEVER) as door:
        door.register(*FOUR)
        sites = [door.connection(name) for name in FOUR]
        threads = [threading.Thread(target=serve, args=(site,), daemon=True) for site in sites]
        for thread in threads:
            thread.start()
        until(lambda: door.is_waiting(*FOUR), "all sites wait")
        served = present(door.link._server).server_state
        before, rounds = served.total_requests, 30
        for index in range(rounds):
            assert answers(door, {n: question(n=index) for n in FOUR}) == {
                name: {"n": index} for name in FOUR
            }
            until(lambda: door.is_waiting(*FOUR), "all sites wait again")
        # Its answer, and a call that waits for the next question.
        assert served.total_requests - before == 2 * len(FOUR) * rounds
        for site in sites:
            site.close()
        for thread in threads:
            thread.join()


def test_large_bodies_go_both_ways_and_leave_nothing_behind(four: Door) -> None:
    body = [bytes([n]) * MB for n in range(5)] + [b"tail"]
    seen = set()
    for name, frame in four.link.ask(
        {n: Frame(json.dumps({"size": 3 * MB + 17}).encode(), body) for n in FOUR}, NEVER
    ):
        seen.add(name)
        assert frame is not None
        assert json.loads(frame.header)["got"] == 5 * MB + 4
        parts = list(frame.body)
        assert sum(len(part) for part in parts) == 3 * MB + 17
        joined = b"".join(parts)
        assert [joined[n * MB : n * MB + 4] for n in range(3)] == [
            n.to_bytes(4, "little") for n in range(3)
        ]
    assert seen == set(FOUR)
    until(lambda: four.objects_held() == 0, "nothing is left behind")


def test_several_studies_ask_at_once(four: Door) -> None:
    results: dict[str, list[dict[str, Any]]] = {}

    def study(label: str) -> None:
        with four.link.open_run(label) as run:
            results[label] = [
                {n: json.loads(present(f).header)["asked"] for n, f in run.ask(
                    {name: question(study=label, n=n) for name in FOUR}, NEVER)}
                for n in range(10)
            ]  # fmt: skip

    threads = [threading.Thread(target=study, args=(f"study-{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for label in ("study-0", "study-1", "study-2"):
        assert [{name: {"study": label, "n": n} for name in FOUR} for n in range(10)] == results[
            label
        ]
    assert four.objects_held() == 0


def test_the_same_model_for_all_sites_is_stored_once(door: Door) -> None:
    door.register(*FOUR)
    body = [bytes([n]) * MB for n in range(4)]
    connections = [door.connection(name) for name in FOUR]
    for connection in connections:
        connection.connect()
    run = door.link.ask({name: Frame(b"{}", body) for name in FOUR}, NEVER)
    threading.Thread(target=lambda: list(run), daemon=True).start()
    until(lambda: len(door.link._state.message_ins_store) == 4, "four messages are stored")
    store = instance(InMemoryObjectStore, door.link._state.object_store)
    assert sum(len(entry.content) for entry in store.store.values()) < 5 * MB
    for connection in connections:
        connection.__exit__(None, None, None)


def ask_all(door: Door, frames: dict[str, Frame], size: int) -> None:
    total = 0
    for _, frame in door.link.ask(frames, NEVER):
        total += sum(len(part) for part in present(frame).body)
    assert total == len(frames) * size


def peak_of(work: Callable[[], None]) -> int:
    """Bytes by which this process is larger at most while it works than before."""
    gc.collect()
    me = psutil.Process()
    base, peak, done = me.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], me.memory_info().rss - base)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return peak[0]


def test_memory_is_bounded_by_bodies_not_by_sites(tmp_path: Path) -> None:
    """24 MB each way: nine sites must cost what three do, at most 2.5 bodies."""
    size = 24 * MB
    names = [f"site{n}" for n in range(9)]
    ratios: dict[int, float] = {}
    with open_door(tmp_path) as door:
        door.register(*names)
        for start in (0, 5):
            door.launch(names[start : start + 5])
        door.wait_online(*names)
        body = [bytes([n]) * MB for n in range(24)]
        for count in (3, 9, 3, 9):  # what other threads hold for a moment is not held twice
            frames = {n: Frame(b'{"size": %d}' % size, body) for n in names[:count]}
            ratio = peak_of(partial(ask_all, door, frames, size)) / size
            ratios[count] = min(ratio, ratios.get(count, ratio))
    assert max(ratios.values()) <= 2.5, ratios


def test_a_killed_site_is_given_up_though_its_time_is_far_from_out(door: Door) -> None:
    door.register("north", "south")
    door.launch(["north"])
    victim = door.launch(["south"], work=NEVER)
    door.wait_online("north", "south")
    got: dict[str, Any] = {}
    both = {"north": question(), "south": question()}
    asking = threading.Thread(target=lambda: got.update(answers(door, both)))
    asking.start()
    until(lambda: door.has_question("south"), "the victim is at work")
    victim.kill()
    asking.join()
    assert got["north"] is not None
    assert got["south"] is None
    assert [e["site"] for e in door.events() if e["event"] == "connection-lost"] == ["south"]
    assert door.link.online() == {"north"}
    # It may come back at once, and its predecessor's heartbeat does not stand in its way.
    door.launch(["south"])
    door.wait_online("south")
    assert not [e for e in door.events() if e["event"] == "refused"]


def first_to_upload(
    door: Door, patch: pytest.MonkeyPatch, do: Callable[[str], object]
) -> list[Exchange]:
    """Does something to the first site that uploads, before its first piece has been taken in."""
    state = door.link._state
    store, first, one_by_one = state.store_object, list[Exchange](), threading.Lock()

    def storing(run_id: int, session_id: str, object_id: str, content: bytes) -> bool:
        with one_by_one:
            if not first:
                first.append(present(state.exchange_of_session(session_id)))
                do(first[0].name)
        return store(run_id, session_id, object_id, content)

    patch.setattr(state, "store_object", storing)
    return first


def set_forward(patch: pytest.MonkeyPatch, seconds: float, when: Callable[[], bool]) -> None:
    """The clock by which the coordinator gives a site up is so far ahead while it is `when`."""

    def monotonic() -> float:
        return time.monotonic() + (seconds if when() else 0.0)

    patch.setattr(fleet_run, "time", SimpleNamespace(monotonic=monotonic, time=time.time))


def test_a_site_that_dies_in_mid_upload_holds_no_other_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come back and go on; the others' answers come meanwhile, and then it is given up."""
    with open_door(tmp_path, stall=HUNG, patience=0.1) as door:
        dies_in_mid_upload(door, monkeypatch)


def dies_in_mid_upload(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.register("north", "south", "west")
    processes = {name: door.launch([name]) for name in ("north", "south", "west")}
    door.wait_online(*processes)

    def kill(name: str) -> None:
        processes[name].kill()
        processes[name].wait()

    killed = first_to_upload(door, monkeypatch, kill)
    frames = {name: question(size=24 * MB) for name in processes}
    sizes: dict[str, int | None] = {}
    set_forward(monkeypatch, 2 * HUNG, when=lambda: len(sizes) == len(processes) - 1)
    for name, frame in door.link.ask(frames, NEVER):
        sizes[name] = None if frame is None else sum(len(part) for part in frame.body)
    [exchange] = killed
    assert list(sizes)[-1] == exchange.name, "given up after the others have answered"
    assert sizes == {name: None if name == exchange.name else 24 * MB for name in processes}


def test_an_upload_that_stands_still_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its silence nor the time-out of the question ends it."""
    with open_door(tmp_path, grace=NEVER) as door:
        door.register("north", "south")
        processes = {name: door.launch([name]) for name in ("north", "south")}
        door.wait_online(*processes)

        def stop(name: str) -> None:
            processes[name].send_signal(signal.SIGSTOP)
            present(stopped[0].transfer).until = float("-inf")

        stopped = first_to_upload(door, monkeypatch, stop)
        frames = {name: question(size=24 * MB) for name in processes}
        answered = {name: frame is not None for name, frame in door.link.ask(frames, NEVER)}
        [exchange] = stopped
        assert answered == {name: name != exchange.name for name in processes}


def test_a_site_that_is_not_connected_is_not_waited_for(door: Door) -> None:
    door.register("north")
    assert answers(door, {"north": question()}) == {"north": None}


def test_no_answer_in_time_is_none_and_the_late_answer_is_not_wanted(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.register("north")
    late = threading.Event()
    set_forward(monkeypatch, 2 * HUNG, late.is_set)
    with door.connection("north") as site:
        site.connect()
        result = []
        asking = threading.Thread(
            target=lambda: result.append(answers(door, {"north": question()}, timeout=HUNG))
        )
        asking.start()
        delivery = present(site.receive(HUNG))
        late.set()
        asking.join()
        assert result == [{"north": None}]
        assert site.reply(delivery, Frame(b"{}")) is False
    assert door.objects_held() == 0


def test_an_abandoned_ask_cleans_up(four: Door) -> None:
    asking = four.link.ask({name: question(size=2 * MB) for name in FOUR}, NEVER)
    next(asking)
    instance(GeneratorType, asking).close()
    assert four.objects_held() == 0
    assert None not in answers(four, {name: question(size=2 * MB) for name in FOUR}).values()


def test_a_lost_message_is_handed_out_again_but_not_twice(door: Door) -> None:
    door.register("north")
    with door.connection("north") as first:
        first.connect()
        asking = door.link.ask({"north": question(n=1)}, NEVER)
        results: Answers = []
        thread = threading.Thread(target=lambda: results.extend(asking))
        thread.start()
        taken = present(first.receive(HUNG))
        assert first.receive(0) is None  # it has it
        first._in_hand.clear()  # the answer to its pull was lost on the way
        again = present(first.receive(HUNG))
        assert again.message_id == taken.message_id
        assert first.reply(again, Frame(b'{"ok": 1}'))
        thread.join()
    assert [(name, present(frame).header) for name, frame in results] == [("north", b'{"ok": 1}')]


def test_a_stock_flower_client_connects_and_answers(door: Door) -> None:
    door.register("stock")
    key = load_node_key(door.key("stock"))
    result: Answers = []
    with http_request_response(
        door.link.address,
        insecure=False,
        root_certificates=str(door.pki.ca_certificate),
        authentication_keys=(key, key.public_key()),
    ) as (node_id, receive, send, get_run, _, pull, push, confirm):
        frames = {"stock": Frame(b'{"hello": 1}', [bytes([n]) * MB for n in range(3)])}
        asking = threading.Thread(target=lambda: result.extend(door.link.ask(frames, NEVER)))
        asking.start()
        until(lambda: door.link._state.message_ins_store, "the question is there")
        metadata, tree = present(receive())
        run_id = metadata.metadata.run_id
        assert get_run(run_id).run_id == run_id
        message = pull_and_inflate_object_from_tree(
            tree, lambda oid: pull(run_id, oid), lambda oid: confirm(run_id, oid),
            return_type=Message,
        )  # fmt: skip
        message.metadata.__dict__["_message_id"] = tree.object_id
        assert message.content["frame"]["header"] == b'{"hello": 1}'
        assert message.content.array_records["body"]["words"].data[MB : MB + 1] == b"\x01"
        assert message.metadata.dst_node_id == node_id
        content = RecordDict({"frame": ConfigRecord({"header": b'{"hi": 2}', "body": b"abc"})})
        reply = Message(content, reply_to=message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            objects = get_all_nested_objects(reply)
            needed, session = send(reply, get_object_tree(reply), 0.0)
            for object_id in needed:
                push(run_id, session, object_id, objects[object_id].deflate())
        asking.join()
    [(name, frame)] = result
    assert frame is not None
    assert (name, frame.header, b"".join(frame.body)) == ("stock", b'{"hi": 2}', b"abc")


def test_the_event_log_names_events_and_is_private(four: Door) -> None:
    answers(four, {name: question(secret="bodies-are-not-logged") for name in FOUR})
    assert {e["site"] for e in four.events() if e["event"] == "connected"} == set(FOUR)
    assert "bodies-are-not-logged" not in four.event_log.read_text()
    assert stat.S_IMODE(four.event_log.stat().st_mode) == 0o600


def test_an_application_of_ours_is_served_on_the_same_port(tmp_path: Path) -> None:
    async def status(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    with open_door(tmp_path) as door:
        door.link.mount("/v1/wardround", status)
        context = ssl.create_default_context(cafile=door.pki.ca_certificate)
        get = partial(httpx.get, verify=context, timeout=HUNG)
        url = f"https://{door.link.address}/v1"
        assert get(f"{url}/wardround/status").text == "/v1/wardround/status"
        assert get(f"{url}/wardroundx").status_code == 404


def test_a_site_taken_off_the_list_is_refused_at_its_next_call(door: Door) -> None:
    door.register("north")
    with door.connection("north") as site:
        site.connect()
        door.link.unregister("north")
        assert site.receive(0) is None
        assert present(site.last_error).code is Code.NODE_KEY
        assert door.link.online() == frozenset()
        pem = public_pem(load_node_key(door.key("north")))
        door.link.register("north", pem)
        until(lambda: site.receive(0) is None and site.connected, "it is connected again")
        assert door.link.online() == {"north"}


def test_only_ecdsa_keys_of_one_site_each_are_registered(door: Door) -> None:
    door.register("north")
    pem = load_node_key(door.key("north")).public_key()
    same = pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    other = rsa.generate_private_key(65537, 2048).public_key()
    rsa_pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for bad in (same, rsa_pem, b"nonsense"):
        with pytest.raises(WardroundError) as caught:
            door.link.register("south", bad)
        assert caught.value.code is Code.NODE_KEY
        assert caught.value.remedy
    fresh = ec.generate_private_key(ec.SECP384R1()).public_key()
    door.link.register("south", fresh.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(WardroundError) as caught:
        list(door.link.ask({"nobody": question()}, NEVER))
    assert caught.value.code is Code.CONFIGURATION


def test_a_port_that_is_taken_is_named(tmp_path: Path, door: Door) -> None:
    port = int(door.link.address.rpartition(":")[2])
    with pytest.raises(WardroundError) as caught:
        SuperLink(SuperLinkConfig(door.pki.certificate, door.pki.private_key, port=port)).start()
    assert caught.value.code is Code.PORT_TAKEN
    assert str(port) in caught.value.message


def test_a_server_key_that_others_can_read_is_refused(door: Door) -> None:
    door.pki.private_key.chmod(0o644)
    with pytest.raises(WardroundError) as caught:
        SuperLink(SuperLinkConfig(door.pki.certificate, door.pki.private_key)).start()
    assert caught.value.code is Code.TLS
    assert "chmod 600" in caught.value.remedy


def test_a_renewed_certificate_is_shown_without_a_restart(door: Door) -> None:
    host, _, port = door.link.address.rpartition(":")

    def shown() -> str:
        context = ssl.create_default_context(cafile=door.pki.ca_certificate)
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            assert secure.version() == "TLSv1.3"
            return instance(str, present(secure.getpeercert())["serialNumber"])

    before = shown()
    door.pki.renew()
    door.link.renew_certificate()
    assert shown() != before


def test_a_body_is_read_once() -> None:
    chunks = ReadOnceChunks([b"ab", b"cd"])
    assert len(chunks) == 2
    assert list(chunks) == [b"ab", b"cd"]
    with pytest.raises(LookupError):
        list(chunks)


def test_closing_a_run_ends_its_questions(door: Door) -> None:
    door.register("north")
    with door.connection("north") as site:
        site.connect()
        run = door.link.open_run("study")
        result: Answers = []
        asking = threading.Thread(
            target=lambda: result.extend(run.ask({"north": question()}, NEVER))
        )
        asking.start()
        assert site.receive(HUNG) is not None
        run.close()
        asking.join()
        assert result == [("north", None)]
        assert list(run.ask({"north": question()}, NEVER)) == [("north", None)]
    assert door.objects_held() == 0


def test_a_network_that_blinks_costs_nothing(tmp_path: Path) -> None:
    with open_door(tmp_path, grace=NEVER) as door:
        door.register("north")
        with door.connection("north") as site:
            site.connect()
            result: Answers = []
            asking = threading.Thread(
                target=lambda: result.extend(door.link.ask({"north": question()}, NEVER))
            )
            asking.start()
            delivery = present(site.receive(HUNG))
            for line in (*site._lines, site._beat_line):
                if line._socket is not None:
                    with suppress(OSError):  # it may have been closed already, unused
                        socket.socket.shutdown(line._socket, socket.SHUT_RDWR)
            assert site.reply(delivery, Frame(b'{"still": 1}', [b"x" * (3 * MB)]))
            asking.join()
            [(_, frame)] = result
            assert present(frame).header == b'{"still": 1}'
            until(lambda: door.link.online() == {"north"}, "it is online again")


def test_a_reply_above_the_limit_is_not_taken_in(tmp_path: Path) -> None:
    with open_door(tmp_path, max_body=4 * MB) as door:
        door.register("north")
        door.launch(["north"])
        door.wait_online("north")
        assert answers(door, {"north": question(size=9 * MB)}) == {"north": None}
        assert answers(door, {"north": question(size=3 * MB)})["north"] is not None
