"""A receiver outlives a disk that takes nothing, and more connections than it may hold."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pydicom.uid import generate_uid

from client.config.site_config import SiteConfig
from client.daemon.receiver_service import ReceiverService
from tests.client.data.dicom.receive.test_receiver import associate, sendable, sent
from tests.client.data.dicom.running_receiver import site
from tests.failing_disk import FAULTS, disk
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
    assert (held.limits.most, held.limits.an_address) == (8, 4)
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
