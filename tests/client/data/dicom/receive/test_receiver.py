"""The receiver with real senders: dcmtk and pynetdicom; what it takes, refuses and survives."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import AE, build_role
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import (
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from client.checks.base import tried
from client.checks.imaging import imaging_checks
from client.config.site_config import SiteConfig
from client.daemon import receiver_status
from client.daemon.receiver_service import ReceiverService
from protocol.errors import WardroundError
from tests.client.data.dicom.dicom_files import CANARIES, DX, folder_of, radiograph, written
from tests.client.data.dicom.running_receiver import Process, site
from tests.waiting import HUNG

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = site(tmp_path_factory.mktemp("site") / "alpha", largest="1 MiB")
    with Process(folder) as process:
        yield process


def associate(port: int, title: str = "A", called: str = "WARDROUND") -> Any:
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = HUNG
    for sop_class in (DX, CT):
        entity.add_requested_context(sop_class)
    entity.add_requested_context("1.2.840.10008.1.1")
    return entity.associate("127.0.0.1", port, ae_title=called)


@contextmanager
def associated(port: int, *sop_classes: str, negotiation: Sequence[Any] = ()) -> Iterator[Any]:
    entity = AE("A")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = HUNG
    for sop_class in sop_classes:
        entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
    association = entity.associate(
        "127.0.0.1", port, ae_title="WARDROUND", ext_neg=list(negotiation)
    )
    assert association.is_established
    yield association
    association.release()


def sent(association: Any, dataset: Dataset) -> int:
    answer = association.send_c_store(dataset)
    assert "Status" in answer, "the association ended"
    return int(answer.Status)


def raw(association: Any, sop_class: str, instance: str, data: bytes, context: str = DX) -> int:
    """A C-STORE whose command says what it likes about its data set."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = instance
    request.Priority = 2
    request.DataSet = BytesIO(data)
    number = next(
        c.context_id for c in association.accepted_contexts if c.abstract_syntax == context
    )
    association._reactor_checkpoint.clear()  # or the association would take the answer itself
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, number)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(answer.Status)


def sendable(number: int, **changes: Any) -> Dataset:
    """As pynetdicom sends it: with the transfer syntax noted."""
    dataset = radiograph(number, **changes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def test_echo_is_for_those_named(receiver: Process, dcmtk: dict[str, Path]) -> None:
    def echo(title: str, called: str = "WARDROUND") -> str:
        command = [dcmtk["echoscu"], "-v", "-aet", title, "-aec", called, "127.0.0.1"]
        done = subprocess.run(
            [*map(str, command), str(receiver.port)], capture_output=True, text=True
        )
        return "ok" if done.returncode == 0 else done.stdout + done.stderr

    assert echo("A") == "ok"
    assert "Calling AE Title Not Recognized" in echo("STRANGER")
    assert "Called AE Title Not Recognized" in echo("A", "OTHER")


@pytest.mark.parametrize("command", ["storescu", "dcmsend"])
def test_dcmtk_sends_a_folder(
    receiver: Process, dcmtk: dict[str, Path], tmp_path: Path, command: str
) -> None:
    first = 100 if command == "storescu" else 200
    folder_of(6, tmp_path / "out", first=first)
    before = len(receiver.stored())
    options = {"storescu": ["+sd"], "dcmsend": ["+sd", "+r"]}[command]
    arguments = ["-aec", "WARDROUND", "127.0.0.1", str(receiver.port), *options]
    done = subprocess.run(
        [str(dcmtk[command]), *arguments, str(tmp_path / "out")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(receiver.stored()) == before + 6


def test_every_kind_of_encoding_arrives_as_it_was_sent(
    receiver: Process, dcmtk: dict[str, Path], tmp_path: Path
) -> None:
    syntaxes = (
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    )
    for number, syntax in enumerate(syntaxes, 300):
        dataset = radiograph(number, StudyInstanceUID="1.2.826.0.1.300")
        path = tmp_path / f"{number}.dcm"
        if syntax.is_encapsulated:
            written(dataset, path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path, enforce_file_format=True)
        else:
            written(dataset, path, syntax)
        arguments = ["-dn", "-aec", "WARDROUND", "127.0.0.1", str(receiver.port), str(path)]
        done = subprocess.run([str(dcmtk["dcmsend"]), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (syntax.name, done.stdout + done.stderr)
    stored = {
        d.SOPInstanceUID: d
        for d in map(dcmread, receiver.stored())
        if d.StudyInstanceUID == "1.2.826.0.1.300"
    }
    assert {d.file_meta.TransferSyntaxUID for d in stored.values()} == set(syntaxes)
    for number in range(300, 304):
        original = dcmread(tmp_path / f"{number}.dcm")
        assert stored[original.SOPInstanceUID] == original
        assert stored[original.SOPInstanceUID].PixelData == original.PixelData


def test_an_object_sent_again_is_one_file_and_a_corrected_one_is_kept_beside_it(
    receiver: Process,
) -> None:
    association = associate(receiver.port)
    before = len(receiver.stored())
    assert [sent(association, sendable(400)) for _ in range(3)] == [0, 0, 0]
    assert len(receiver.stored()) == before + 1
    corrected = sendable(400, BodyPartExamined="HAND")
    assert [sent(association, corrected) for _ in range(2)] == [0, 0]
    association.release()
    assert len(receiver.stored()) == before + 2
    parts = {
        d.BodyPartExamined for d in map(dcmread, receiver.stored()) if d.AccessionNumber == "A200"
    }
    assert parts == {"HAND", sendable(400).BodyPartExamined}
    assert receiver.event("another object has this UID")


def test_what_is_not_needed_is_answered_and_dropped_whatever_its_size(receiver: Process) -> None:
    """Of classes that pynetdicom does not know, and larger than any object that is stored."""
    classes = [
        "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR
        "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection
        "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set
        "1.2.840.10008.5.1.4.1.1.88.76",  # Enhanced X-Ray Radiation Dose SR
        "1.2.840.10008.5.1.4.1.1.77.1.1.1",  # Video Endoscopic Image
        "1.2.840.10008.5.1.4.1.1.8",  # Standalone Overlay, retired
        "1.2.840.10008.5.1.4.1.1.88.1",  # Text SR, of a trial
    ]
    before = receiver.stored()
    with associated(receiver.port, *classes) as association:
        for number, sop_class in enumerate(classes):
            report = sendable(540 + number, side=1024 if number == 0 else 64, SOPClassUID=sop_class)
            assert sent(association, report) == 0, sop_class
    assert receiver.stored() == before


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.5"])
def test_retired_classes_that_archives_still_send_are_stored(
    receiver: Process, sop_class: str
) -> None:
    before = len(receiver.stored())
    dataset = sendable(560 + int(sop_class[-1]), SOPClassUID=sop_class)
    with associated(receiver.port, sop_class) as association:
        assert sent(association, dataset) == 0
    assert len(receiver.stored()) == before + 1


def test_contexts_roles_and_extensions_that_are_not_known_cost_nothing_else(
    receiver: Process,
) -> None:
    """128 contexts, most of no storage; a sender that offers both roles; extended negotiation and a
    user's identity, to which no answer means that they are not supported (PS3.7, D.3.3)."""
    extension = SOPClassExtendedNegotiation()
    extension.sop_class_uid, extension.service_class_application_information = DX, b"\2\0\1\0"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = DX, "1.2.840.10008.4.2"
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 1, b"nobody"
    negotiation = [build_role(DX, scu_role=True, scp_role=True), extension, common, identity]
    others = [f"1.2.840.10008.5.1.4.1.2.{number}" for number in range(127)]  # of queries, or none
    with associated(receiver.port, *others, DX, negotiation=negotiation) as association:
        assert {c.result for c in association.rejected_contexts} == {3}
        assert len(association.rejected_contexts) == 127
        assert sent(association, sendable(570)) == 0


def test_private_classes_and_those_of_later_editions_are_answered_and_dropped(
    receiver: Process,
) -> None:
    """fo-dicom 355: of 325 images of a Philips MR came 17, since those after its first private
    object never did; dcm4chee-arc-light 3149."""
    classes = [
        "1.3.46.670589.11.0.0.12.4",  # Philips, examcard
        "1.3.12.2.1107.5.9.1",  # Siemens, CSA non-image
        "1.2.840.113619.4.26",  # GE, three-dimensional model
        "1.2.840.10008.5.1.4.1.1.999",  # the standard's, some day
    ]
    before = len(receiver.stored())
    with associated(receiver.port, *classes, DX) as association:
        taken = {str(context.abstract_syntax) for context in association.accepted_contexts}
        assert taken == {*classes, DX}
        for number, sop_class in enumerate(classes):
            assert sent(association, sendable(580 + number, SOPClassUID=sop_class)) == 0, sop_class
        assert sent(association, sendable(590)) == 0
    assert len(receiver.stored()) == before + 1


def test_what_does_not_fit_is_answered_with_its_status(receiver: Process) -> None:
    association = associate(receiver.port)
    whole = encode(sendable(500), True, True)
    assert whole is not None
    uid = str(sendable(500).SOPInstanceUID)
    before = receiver.stored()
    assert raw(association, CT, uid, whole, context=CT) == 0xA900
    assert raw(association, DX, uid, whole, context=CT) == 0xA900
    assert raw(association, DX, "1.2.3.4", whole) == 0xC000
    assert raw(association, DX, uid, b"\x08") == 0xC000
    assert raw(association, DX, uid, b"\xff" * 5000) == 0xC000
    without = encode(sendable(500, StudyInstanceUID=None), True, True)
    assert without is not None
    assert raw(association, DX, uid, without) == 0xC000
    assert receiver.stored() == before
    assert raw(association, DX, uid, whole) == 0
    association.release()
    assert len(receiver.stored()) == len(before) + 1


def test_an_object_that_is_too_large_is_refused_and_the_next_is_taken(receiver: Process) -> None:
    association = associate(receiver.port)
    assert sent(association, sendable(510, side=1024)) == 0xA700
    assert sent(association, sendable(511)) == 0
    association.release()
    assert list((receiver.store / ".incoming").iterdir()) == []


def test_strangers_and_garbage_do_not_stop_it(receiver: Process) -> None:
    silent = socket.create_connection(("127.0.0.1", receiver.port))
    for bytes_ in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\xff\xff\xff\xff", b"\x04\0" + b"\0" * 300):
        with socket.create_connection(("127.0.0.1", receiver.port)) as rude:
            rude.sendall(bytes_)
    aborted = associate(receiver.port)
    aborted.abort()
    association = associate(receiver.port)
    assert sent(association, sendable(520)) == 0
    association.release()
    silent.close()


def test_names_on_disk_and_in_the_log_identify_nobody(receiver: Process) -> None:
    association = associate(receiver.port)
    assert sent(association, sendable(530)) == 0
    association.release()
    for path in receiver.store.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
        assert not any(canary in str(path).encode() for canary in CANARIES)
    log = receiver.log.read_bytes()
    assert b"association" in log
    assert not any(canary in log for canary in CANARIES)
    assert b"1.2.826" not in log


def test_two_receivers_do_not_share_a_store(receiver: Process) -> None:
    config = SiteConfig.load(receiver.folder / "site.yaml")
    with pytest.raises(WardroundError, match="Another receiver"), ReceiverService(config):
        pass


def test_nobody_is_let_in_by_default(tmp_path: Path, dcmtk: dict[str, Path]) -> None:
    with Process(site(tmp_path / "alpha", calling=[])) as process:
        assert associate(process.port).is_rejected
        assert associate(process.port, "WARDROUND").is_rejected
        assert process.event("nobody may send")


def test_a_disk_at_its_floor_refuses_and_loses_nothing(tmp_path: Path) -> None:
    folder = site(tmp_path / "alpha", floor=1 << 60)
    with Process(folder) as process:
        association = associate(process.port)
        assert sent(association, sendable(0)) == 0xA700
        association.release()
        assert associate(process.port, "STRANGER").is_rejected
        assert process.stored() == []
        assert process.stop() == 0
    findings = {f.name: f for f in tried(imaging_checks(SiteConfig.load(folder / "site.yaml")))}
    assert findings["senders"].passed is None
    for told in (
        "1 objects refused: the disk is full or at its floor",
        "1 associations rejected: title not in receiver.calling",
        "the last of them by STRANGER at 127.0.0.1",
    ):
        assert told in findings["senders"].found


def test_a_disk_that_is_full_refuses_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    with Process(site(tmp_path / "alpha"), largest_file=200_000) as process:
        association = associate(process.port)
        assert sent(association, sendable(0, side=512)) == 0xA700
        assert sent(association, sendable(1)) == 0
        association.release()
        assert len(process.stored()) == 1
        assert list((process.store / ".incoming").iterdir()) == []


def test_killed_half_way_it_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """500 objects by 4 senders, SIGKILL after some 100, then another receiver on the port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = site(tmp_path / "alpha", listen=f"127.0.0.1:{port}", quiet=86400)
    acknowledged: dict[str, bytes] = {}
    half, restarted, one_by_one = threading.Event(), threading.Event(), threading.Lock()
    waiting = threading.Semaphore(0)

    def send(numbers: range) -> None:
        left = [sendable(n, side=32) for n in numbers]
        while left:
            association = associate(port)
            while left and association.is_established:
                answer = association.send_c_store(left[0])
                if "Status" not in answer or answer.Status != 0:
                    break
                done = left.pop(0)
                acknowledged[str(done.SOPInstanceUID)] = done.PixelData
                with one_by_one:
                    if len(acknowledged) >= 100 and not half.is_set():
                        first.kill()  # here, before any sender has sent all of its own
                        half.set()
            if association.is_established:
                association.release()
            if left:
                waiting.release()
                restarted.wait(HUNG)

    senders = [threading.Thread(target=send, args=(range(k, 500, 4),)) for k in range(4)]
    first = Process(folder)
    (first.store / ".incoming/stale.part").write_bytes(b"half")
    for sender in senders:
        sender.start()
    assert half.wait(HUNG)
    for _ in senders:
        assert waiting.acquire(timeout=HUNG)
    promised = dict(acknowledged)
    assert 100 <= len(promised) < 500
    assert _on_disk(first).items() >= promised.items()
    with Process(folder) as second:
        assert list((second.store / ".incoming").iterdir()) == []
        restarted.set()
        for sender in senders:
            sender.join(HUNG)
        assert len(acknowledged) == 500
        assert _on_disk(second) == acknowledged
        assert second.stop() == 0


def _on_disk(process: Process) -> dict[str, bytes]:
    """Every file under its name is whole."""
    return {str(d.SOPInstanceUID): d.PixelData for d in map(dcmread, process.stored())}


def test_a_quiet_study_is_indexed_and_sigterm_ends_cleanly(tmp_path: Path) -> None:
    with Process(site(tmp_path / "alpha")) as process:
        association = associate(process.port)
        assert [sent(association, sendable(n)) for n in range(4)] == [0] * 4
        association.release()
        done: list[dict[str, Any]] = []
        while sum(event["files"] for event in done) < 4:  # in one batch, or a slow machine's two
            time.sleep(0.05)
            done = [event for event in process.events() if event["event"] == "indexed"]
        assert (done[-1]["ready"], done[-1]["kept_out"]) == (4, 0)
        assert process.stop() == 0
        assert process.event("stopped")["stored"] == 4
        told = receiver_status.read(process.folder / "state")
        assert told is not None
        assert (told.listens, told.counts["stored"], told.room > 0) == (False, 4, True)
        assert "last by A at 127.0.0.1 at 20" in str(told)
        (senders,) = (
            finding
            for finding in tried(imaging_checks(SiteConfig.load(process.folder / "site.yaml")))
            if finding.name == "senders"
        )
        assert (senders.passed, senders.found[:16]) == (True, "4 objects stored")
        (process.folder / "state" / receiver_status.FILE).write_bytes(b"{")
        assert receiver_status.read(process.folder / "state") is None
