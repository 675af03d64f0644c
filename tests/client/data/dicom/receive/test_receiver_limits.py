"""A receiver outlives a disk that takes nothing, and more connections than it may hold."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from pydicom.uid import generate_uid
from pynetdicom.association import Association

from client.config.site_config import SiteConfig
from client.daemon.receiver_service import ReceiverService
from client.data.dicom.receive.association_server import INTRODUCTION, _Handler
from tests.client.data.dicom.receive.association_requests import request
from tests.client.data.dicom.receive.test_receiver import associate, sendable, sent
from tests.client.data.dicom.running_receiver import site
from tests.failing_disk import FAULTS, disk
from tests.narrowing import present
from tests.waiting import HUNG, until

_numbers = iter(range(1000))


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverService]:
    folder = site(tmp_path_factory.mktemp("site") / "alpha", associations=2)
    hook = threading.excepthook
    with ReceiverService(SiteConfig.load(folder / "site.yaml")) as service:
        yield service
    threading.excepthook = hook


def port(receiver: ReceiverService) -> int:
    return int(receiver.address.rpartition(":")[2])


def test_these_are_all_the_files_that_a_receiver_writes(receiver: ReceiverService) -> None:
    with disk(receiver._folder) as watched:
        association = associate(port(receiver))
        assert sent(association, sendable(next(_numbers))) == 0
        association.release()
    assert {name.partition("/")[0] for name in watched.written} == {".incoming", "N"}


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", [".incoming/*", "N"])
def test_an_object_that_the_disk_does_not_take_is_refused_and_the_next_one_stored(
    receiver: ReceiverService, name: str, fault: int
) -> None:
    dataset = sendable(next(_numbers))
    dataset.StudyInstanceUID = generate_uid()
    association = associate(port(receiver))
    with disk(receiver._folder, name, fault) as watched:
        assert sent(association, dataset) == 0xA700
        assert watched.failures
    assert sent(association, dataset) == 0
    association.release()


def test_connections_beyond_the_limit_are_closed_and_senders_come_through_afterwards(
    receiver: ReceiverService,
) -> None:
    held = receiver.receiver._server.connections
    until(lambda: len(held) == 0, "earlier senders have gone")
    assert (held.limits.max_connections, held.limits.per_address) == (8, 4)
    with ExitStack() as strangers:
        for _ in range(4):
            strangers.enter_context(socket.create_connection(("127.0.0.1", port(receiver)), HUNG))
        until(lambda: len(held) == 4, "four are held")
        with socket.create_connection(("127.0.0.1", port(receiver)), HUNG) as refused:
            assert refused.recv(1) == b""
    assert receiver.summary()["rejected"] >= 1
    until(lambda: len(held) == 0, "their places are free again")
    association = associate(port(receiver))
    assert sent(association, sendable(next(_numbers))) == 0
    association.release()


def test_who_has_not_asked_for_an_association_holds_no_senders_place(
    receiver: ReceiverService,
) -> None:
    """Two senders may come at once; three silent connections and a stranger are no senders."""
    held = receiver.receiver._server.connections
    until(lambda: len(held) == 0, "earlier senders have gone")
    with ExitStack() as strangers:
        for _ in range(2):
            strangers.enter_context(socket.create_connection(("127.0.0.1", port(receiver)), HUNG))
        until(lambda: len(held) == 2, "two are held")
        assert associate(port(receiver), "STRANGER").is_rejected
        senders = [associate(port(receiver)) for _ in range(2)]
        assert all(sender.is_established for sender in senders)
        for sender in senders:
            sender.release()


def test_a_connection_costs_no_copy_of_all_that_is_supported(receiver: ReceiverService) -> None:
    """204 contexts of 50 syntaxes each took a tenth of a second for every probe of the port."""
    server = receiver.receiver._server
    until(lambda: len(server.connections) == 0, "earlier senders have gone")
    with socket.create_connection(("127.0.0.1", port(receiver)), HUNG):
        until(lambda: server.active_associations, "it is held")
        (association,) = server.active_associations
        assert association.acceptor.supported_contexts is server.contexts
    until(lambda: len(server.connections) == 0, "its place is free again")


def test_a_connection_that_is_closed_unused_is_forgotten_at_once(
    receiver: ReceiverService, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = receiver.receiver._server
    until(lambda: len(server.connections) == 0, "earlier senders have gone")
    monkeypatch.setattr(server.ae, "_acse_timeout", None)  # it would be waited for without end
    for said in (b"", b"\x01\0", b"GET / HTTP/1.0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port(receiver)), HUNG) as probe:
            until(lambda: [a for a in server.active_associations if a.is_alive()], "it is held")
            (association,) = server.active_associations
            probe.sendall(said)
        association.join(HUNG / 4)
        assert not association.is_alive()
        until(lambda: len(server.connections) == 0, "its place is free again")
    assert server.active_associations == []


def test_who_speaks_slowly_before_an_association_is_timed_from_the_first_byte(
    receiver: ReceiverService,
) -> None:
    """Each byte in time, all of them too late: what is left shrinks with every read."""
    server = receiver.receiver._server
    until(lambda: len(server.connections) == 0, "earlier senders have gone")
    with closing(socket.create_connection(("127.0.0.1", port(receiver)), HUNG)) as slow:
        slow.sendall(b"\x01\0\0\0\1\0")
        until(lambda: len(server.active_associations) == 1, "it is read from")
        (association,) = server.active_associations
        line = association.dul.socket
        assert 0 < line._patience() < INTRODUCTION
        line.introduced_by = 0.0
        slow.sendall(b"\x01")
        until(lambda: len(server.connections) == 0, "it is closed")


def test_a_sender_that_never_releases_is_let_go(
    receiver: ReceiverService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PACS that sends its images and then leaves the line open, association after association,
    until the local limit is exceeded for everybody."""
    server = receiver.receiver._server
    until(lambda: len(server.connections) == 0, "earlier senders have gone")
    monkeypatch.setattr(server.ae, "_network_timeout", 0.2)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port(receiver)), HUNG) as line:
            line.sendall(request())
            until(lambda: receiver.receiver.counts.last_sender != "", "it is let in")
            until(lambda: len(server.connections) == 0, "it is let go")
    monkeypatch.undo()
    association = associate(port(receiver))
    assert sent(association, sendable(next(_numbers))) == 0
    association.release()


def test_what_cannot_be_understood_is_counted_and_fills_no_log(
    receiver: ReceiverService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A message without the field that says what it asks for ends the thread that reads it."""
    monkeypatch.setattr(receiver.receiver._strange, "_max_events", 2)
    message = bytes.fromhex("04000000000e0000000a0103" + "00" * 8)
    before, held = receiver.receiver.counts.rejected.total(), receiver.receiver._server.connections
    caplog.set_level("INFO")
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", port(receiver)), HUNG) as line:
            line.sendall(request())
            assert line.recv(1 << 16)[:1] == b"\2", "A-ASSOCIATE-AC"
            line.sendall(message)
            assert line.recv(1) == b"", "closed, and not only counted no more"
        until(lambda: len(held) == 0, "its place is free again")
    assert receiver.receiver.counts.rejected["not understood"] == 4
    assert receiver.receiver.counts.rejected.total() == before + 4
    said = [record.message for record in caplog.records]
    assert said.count("connection not understood") == 2
    association = associate(port(receiver))
    assert sent(association, sendable(next(_numbers))) == 0
    association.release()


def test_an_association_that_ends_by_an_exception_is_closed(
    receiver: ReceiverService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = list[Association](), _Handler._create_association

    def kept(handler: _Handler) -> Association:
        made.append(make(handler))  # or its connection would be closed for being forgotten
        return made[-1]

    def end(association: Association) -> None:
        raise ValueError

    monkeypatch.setattr(_Handler, "_create_association", kept)
    monkeypatch.setattr(Association, "run", end)
    with socket.create_connection(("127.0.0.1", port(receiver)), HUNG):
        until(lambda: made and made[0].ident and not made[0].is_alive(), "its thread has ended")
        assert present(made[0].dul.socket).socket is None
