"""The receiver as a PACS meets it: whole studies, one UID twice, probes of its port.

What each case stands for: presentation contexts refused that a PACS sends along, at which
storescu, dcmsend and Orthanc abort; data that is acknowledged, then lost; connections that never
associate and keep their place among those allowed for good.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # pynetdicom makes it at import

from tests.cases.imaging.listening import SECONDS, Listening, association
from tests.cases.imaging.objects import radiograph
from tests.client.data.dicom.running_receiver import Process

HERE = Path(__file__).resolve().parent
FAILURES = 0xA000
"""From here on a status says that the object was not taken."""
PROBES = 60


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Listening(tmp_path_factory.mktemp("site") / "alpha") as process:
        yield process
        process.stop()  # not killed, so that its workers end before this does


def test_a_study_with_reports_in_it_arrives(receiver: Process) -> None:
    """As storescu, dcmsend and Orthanc send it: one association, in order, ended by the first
    failure. Reports may be taken and dropped."""
    objects = [dcmread(HERE / f"study_{name}.dcm") for name in ("ct0", "sr", "pr", "ct1")]
    before = len(receiver.stored())
    contexts = {(each.SOPClassUID, each.file_meta.TransferSyntaxUID) for each in objects}
    answered = []
    with association(receiver, *contexts) as sender:
        for each in objects:
            try:
                status = int(sender.send_c_store(each).Status)
            except ValueError:
                answered.append("no presentation context")
                break
            answered.append(hex(status))
            if status >= FAILURES:
                break
    assert len(answered) == len(objects), answered
    assert len(receiver.stored()) - before >= 2


def test_another_patients_object_with_the_same_uid_overwrites_nothing(receiver: Process) -> None:
    uid, study, answered = generate_uid(), generate_uid(), []
    before = set(receiver.stored())
    for patient, values in (("FIRST", 1000), ("SECOND", 3000)):
        dataset = radiograph(patient, uid, study, values)
        with association(receiver, (dataset.SOPClassUID, ExplicitVRLittleEndian)) as sender:
            answered.append(int(sender.send_c_store(dataset).Status))
    new = sorted(set(receiver.stored()) - before)
    there = [str(dcmread(path, force=True).get("PatientID")) for path in new]
    refused = answered[1] != 0
    assert len(there) == 2 or ("FIRST" in there and refused), (there, list(map(hex, answered)))


def echo(receiver: Process) -> str:
    """The status of a C-ECHO, or that there was none."""
    with association(receiver, Verification) as sender:
        return hex(sender.send_c_echo().Status) if sender.is_established else "refused"


@pytest.mark.slow
def test_probes_of_the_port_keep_no_sender_out(tmp_path: Path) -> None:
    """What a load balancer or a monitor does: connect and close, ten times a second."""
    with Listening(tmp_path / "alpha") as receiver:
        if (before := echo(receiver)) != "0x0":
            raise RuntimeError(f"the receiver answers {before} before the first probe")
        for _ in range(PROBES):
            socket.create_connection(("127.0.0.1", receiver.port), SECONDS).close()
            time.sleep(0.1)  # the pace of the probes; nothing is waited for
        seen = echo(receiver)
    assert seen == "0x0"
