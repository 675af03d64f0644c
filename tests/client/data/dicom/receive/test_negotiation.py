"""What senders ask for, and what the standard says is answered (PS3.7, annex D; PS3.8, section 9).

Several are what archives and modalities were seen to send in reports of other receivers: titles and
UIDs padded with NUL, no version name or an empty one, unknown items, the same context twice.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from client.config.site_config import SiteConfig
from client.daemon.receiver_service import ReceiverService
from tests.client.data.dicom.dicom_files import DX
from tests.client.data.dicom.receive.association_requests import (
    IMPLICIT,
    VERIFICATION,
    answered,
    context,
    item,
    request,
)
from tests.client.data.dicom.running_receiver import site
from tests.waiting import HUNG

LENGTH, CLASS = item(0x51, (16384).to_bytes(4, "big")), item(0x52, b"1.2.3")
PRIVATE, FIND = b"1.3.46.670589.2.5.1.1", b"1.2.840.10008.5.1.4.1.2.2.1"
EXPLICIT, JPIP = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.4.94"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = site(tmp_path_factory.mktemp("site") / "alpha")
    hook = threading.excepthook
    with ReceiverService(SiteConfig.load(folder / "site.yaml")) as service:
        yield int(service.address.rpartition(":")[2])
    threading.excepthook = hook


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request(calling=b"  A".ljust(16)), id="leading spaces"),
        pytest.param(request(calling=b"A".ljust(16, b"\0")), id="title padded with NUL"),
        pytest.param(request(called=b"WARDROUND".ljust(16, b"\0")), id="called, padded with NUL"),
        pytest.param(request(context(1, VERIFICATION + b"\0")), id="UID padded with NUL"),
        pytest.param(request(context(1, VERIFICATION, IMPLICIT + b"\0")), id="syntax padded"),
        pytest.param(request(user=LENGTH + CLASS + item(0x55, b"")), id="empty version name"),
        pytest.param(request(user=LENGTH + CLASS + item(0x55, b"X" * 20)), id="long version name"),
        pytest.param(request(user=LENGTH), id="no implementation class"),
        pytest.param(request(user=item(0x51, bytes(4)) + CLASS), id="no limit of a PDU"),
        pytest.param(request(user=LENGTH + CLASS + item(0x53, b"\0\5\0\5")), id="asynchronous"),
        pytest.param(request(user=LENGTH + CLASS + item(0x7E, b"new")), id="unknown user item"),
        pytest.param(request(version=3), id="a later version too"),
    ],
)
def test_what_is_unusual_is_accepted(port: int, asked: bytes) -> None:
    assert answered(port, asked) == {1: 0}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        pytest.param(request(calling=b"B2".ljust(16)), (1, 1, 3), id="calling title"),
        pytest.param(request(called=b"OTHER".ljust(16)), (1, 1, 7), id="called title"),
        pytest.param(request(application=b"1.2.3"), (1, 1, 2), id="application context"),
        pytest.param(request(version=2), (1, 2, 2), id="protocol version"),
    ],
)
def test_what_cannot_be_is_rejected_with_its_reason(
    port: int, asked: bytes, answer: tuple[int, ...]
) -> None:
    assert answered(port, asked) == answer


def test_each_context_has_its_own_answer(port: int) -> None:
    """0 accepted, 3 abstract syntax not supported, 4 transfer syntaxes not supported."""
    dx = DX.encode()
    contexts = [
        context(1),
        context(3, FIND),
        context(5, dx, JPIP),
        context(7, dx, JPIP, EXPLICIT),
        context(9, dx, EXPLICIT),
        context(11, PRIVATE, JPIP),
        *(context(number, PRIVATE) for number in range(13, 256, 2)),
    ]
    assert answered(port, request(*contexts)) == {
        1: 0, 3: 3, 5: 4, 7: 0, 9: 0, 11: 4, **dict.fromkeys(range(13, 256, 2), 0),
    }  # fmt: skip


def test_a_sender_of_nothing_that_is_known_is_still_answered(port: int) -> None:
    assert answered(port, request(context(1, FIND), context(3, b"abc"))) == {1: 3, 3: 3}


@pytest.mark.parametrize(
    "asked",
    [
        *(pytest.param(context(number), id=f"number {number}") for number in (0, 2, 254)),
        pytest.param(item(0x20, bytes([1, 0, 0, 0]) + item(0x40, IMPLICIT)), id="no abstract"),
        pytest.param(item(0x20, bytes([1, 0, 0, 0]) + item(0x30, VERIFICATION)), id="no transfer"),
    ],
)
def test_what_the_library_cannot_take_is_aborted_and_not_left_waiting(
    port: int, asked: bytes
) -> None:
    """Numbers of contexts are odd, and each names its syntaxes (PS3.8, section 9.3.2.2)."""
    with socket.create_connection(("127.0.0.1", port), HUNG) as line:
        line.sendall(request(asked))
        assert line.recv(10)[:1] == b"\7", "A-ABORT"
    assert answered(port, request()) == {1: 0}


@pytest.mark.parametrize("first", [request(context(2)), request(), b"GET / HTTP/1.1\r\n"])
def test_a_peer_that_talks_on_is_not_answered_byte_by_byte(port: int, first: bytes) -> None:
    """Whatever it is, before and after it was let in."""
    with socket.create_connection(("127.0.0.1", port), HUNG) as line:
        line.sendall(first)
        if first == request():
            assert line.recv(1 << 16)[:1] == b"\2", "A-ASSOCIATE-AC"
        line.sendall(b"A" * 100_000)
        line.shutdown(socket.SHUT_WR)
        with line.makefile("rb") as file:
            heard = file.read()
    assert heard[:1] == b"\7", "A-ABORT"
    assert len(heard) <= 20, "two at most"
    assert answered(port, request()) == {1: 0}
