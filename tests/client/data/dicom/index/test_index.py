"""The index: what it takes in, forgets, keeps out and gives away."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from client.data.dicom.index import index as indexed
from client.data.dicom.index import report
from client.data.dicom.index.index import FILE, ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.objects.gate import RULES, TRANSIENT, GatePolicy, Reason
from client.data.dicom.objects.header import Problem
from client.data.dicom.objects.pseudonym import FILE as SECRET
from client.data.dicom.pixels.faults import PixelFault
from protocol.errors import Code, WardroundError
from tests.client.data.dicom.dicom_files import CANARIES, folder_of, radiograph, written

NO_LOOK = GatePolicy(detect_text=False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def verdicts(index: ImageIndex) -> dict[str, str]:
    return {aside.path.name: aside.verdict for aside in index.kept_out()}


def test_what_is_kept_is_pseudonyms_and_allowed_attributes(state: Path, tmp_path: Path) -> None:
    folder_of(4, tmp_path / "in")
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [tmp_path / "in"])
        rows = index.ready()
        assert [row["patient"] for row in rows].count(index.names.of("77707770")) == 2
        assert {row["accession"] for row in rows} == {index.names.of("A0"), index.names.of("A1")}
        row = next(r for r in rows if r["image"] == index.names.of("1.2.826.0.1.0.1.1"))
        assert row["study"] == index.names.of("1.2.826.0.1.0")
        wanted = {"study_date": "2024-01-31", "modality": "DX", "body_part": "CHEST", "kvp": 120,
                  "view_position": "PA", "manufacturer": index.names.of("Maker"),
                  "protocol": "chest pa", "rows": 64, "columns": 64}  # fmt: skip
        assert {name: row[name] for name in wanted} == wanted
        assert index.paths([row["image"]]) == {row["image"]: tmp_path / "in/0000.dcm"}
    for file in state.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
        content = file.read_bytes()
        assert not any(canary in content for canary in CANARIES), file


def test_a_second_run_reads_only_what_is_new_or_changed_and_forgets_the_rest(
    state: Path, tmp_path: Path
) -> None:
    files = folder_of(6, tmp_path / "in")
    (tmp_path / "in-other").mkdir()
    folder_of(1, tmp_path / "in-other", first=40)
    with ImageIndex.open(state, NO_LOOK) as index:
        first = bring_up_to_date(index, [tmp_path / "in", tmp_path / "in-other"])
        assert (first.read, first.unchanged, first.gone) == (7, 0, 0)
        files[0].unlink()
        written(radiograph(1, BodyPartExamined="HAND", side=32), files[1])
        folder_of(1, tmp_path / "in", first=30)
        again = bring_up_to_date(index, [tmp_path / "in"])
        assert (again.read, again.unchanged, again.gone) == (2, 4, 1)
        assert len(index.ready()) == 7
        assert Counter(row["body_part"] for row in index.ready())["HAND"] == 1


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(state: Path, tmp_path: Path) -> None:
    folder_of(20, tmp_path / "in")
    asked = iter([False] * 7 + [True] * 100)
    with ImageIndex.open(state) as index:
        first = bring_up_to_date(index, [tmp_path / "in"], workers=1, stop=lambda: next(asked))
        assert (first.read, first.looked_at) == (8, 0)
        second = bring_up_to_date(index, [tmp_path / "in"])
        assert (second.read, second.unchanged, second.looked_at) == (12, 8, 20)
        assert len(index.ready()) == 20


def test_what_cannot_be_read_is_listed_with_its_reason_and_stops_nothing(
    state: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (good,) = folder_of(1, folder)
    whole = good.read_bytes()
    (folder / "empty").write_bytes(b"")
    (folder / "notes.txt").write_text("CANARY was here on 1933-07-22")
    (folder / "short.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "syntax.dcm").write_bytes(
        whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.8\0")
    )
    start = written(radiograph(1), folder / "bomb.dcm", "1.2.840.10008.1.2.1.99").read_bytes()
    meta = 144 + int.from_bytes(start[140:144], "little")
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    zeros = squeezer.compress(bytes(48 << 20)) + squeezer.flush()
    (folder / "bomb.dcm").write_bytes(start[:meta] + zeros)
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / os.fsdecode(b"n\xffme.dcm")).write_bytes(whole)
    (folder / ".hidden.dcm").write_bytes(whole)
    with ImageIndex.open(state, NO_LOOK) as index:
        tally = bring_up_to_date(index, [folder])
        found = verdicts(index)
        assert found["empty"] == Problem.EMPTY
        assert found["notes.txt"] == Problem.OTHER
        assert found["short.dcm"] == Problem.CUT_SHORT
        assert found["syntax.dcm"] == Problem.SYNTAX
        assert found["bomb.dcm"] in (Problem.DAMAGED, Problem.SLOW, Reason.NO_PIXELS)
        assert Reason.COPY in found.values()
        assert (tally.found, tally.verdicts[""]) == (7, 1)


def test_objects_are_set_aside_with_the_reason(state: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"

    def put(name: str, number: int, **changes: Any) -> None:
        written(radiograph(number, **changes), folder / name)

    put("ready", 0)
    put("no pixels", 2, PixelData=None)
    put("empty pixels", 4, PixelData=b"")
    put("nobody", 6, PatientID="")
    put("no study", 8, StudyInstanceUID=None)
    put("report", 10, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    put("tag", 12, BurnedInAnnotation="YES")
    put("face", 14, RecognizableVisualFeatures="YES")
    put("ultrasound", 16, Modality="US")
    put("screen", 18, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    put("one accession", 20, AccessionNumber="SAME")
    put("another patient", 22, AccessionNumber="SAME")
    put("study a", 24, StudyInstanceUID="1.2.9")
    put("study b", 26, StudyInstanceUID="1.2.9")
    put("object a", 28, SOPInstanceUID="1.2.8")
    put("object b", 30, SOPInstanceUID="1.2.8")
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [folder])
        assert verdicts(index) == {
            "no pixels": Reason.NO_PIXELS,
            "empty pixels": Reason.NO_PIXELS,
            "nobody": Reason.NO_PATIENT,
            "no study": Reason.NO_UID,
            "report": Reason.NOT_AN_IMAGE,
            "tag": Reason.BURNED_IN,
            "face": Reason.FACE,
            "ultrasound": Reason.AT_RISK,
            "screen": Reason.AT_RISK,
            "one accession": Reason.TWO_PATIENTS_ACCESSION,
            "another patient": Reason.TWO_PATIENTS_ACCESSION,
            "study a": Reason.TWO_PATIENTS_STUDY,
            "study b": Reason.TWO_PATIENTS_STUDY,
            "object a": Reason.TWO_OBJECTS,
            "object b": Reason.TWO_OBJECTS,
        }
        assert len(index.ready()) == 1
        aside = next(a for a in index.kept_out() if a.path.name == "tag")
        assert index.paths([aside.image or ""]) == {}
        told = {line.why: line.attribute for line in report.of(index).kept_out}
        assert all(told.values())
        assert told[Reason.BURNED_IN] == "Burned In Annotation"
        assert told[Reason.TWO_PATIENTS_STUDY] == "Study Instance UID"
    with ImageIndex.open(state, GatePolicy(frozenset({"US"}), detect_text=False)) as index:
        assert "ultrasound" not in verdicts(index)
        assert "screen" in verdicts(index)


def test_the_report_names_what_every_rule_reads() -> None:
    """But for what a person did, and for what is no property of the file."""
    named = {reason for reason in Reason if reason in report._ATTRIBUTES}
    assert set(Reason) - named == {Reason.WITHHELD, Reason.NOT_LOOKED, *TRANSIENT}


def test_what_is_not_looked_at_waits_and_what_cannot_be_decoded_stays_out(
    state: Path, tmp_path: Path
) -> None:
    good, bad = folder_of(2, tmp_path / "in")
    data = bad.read_bytes()
    bad.write_bytes(data.replace(b"\x28\0\x10\0US\x02\0\x40\0", b"\x28\0\x10\0US\x02\0\xff\xff"))
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [tmp_path / "in"])
    with ImageIndex.open(state) as index:
        assert set(verdicts(index).values()) == {Reason.NOT_LOOKED}
        bring_up_to_date(index, [tmp_path / "in"])
        assert verdicts(index) == {bad.name: PixelFault.CUT_SHORT}
        assert list(index.paths(r["image"] for r in index.ready()).values()) == [good]


def test_a_person_may_release_a_suspicion_and_withhold_anything(
    state: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    written(radiograph(0), folder / "clean")
    written(radiograph(2, BurnedInAnnotation="YES"), folder / "tagged")
    written(radiograph(4, PatientID=""), folder / "nobody")
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [folder])
        keys = [index.names.of(f"1.2.826.0.1.{n}.1.{2 * n + 1}") for n in range(3)]
        assert index.whole_keys([key[:8] for key in keys]) == keys
        with pytest.raises(WardroundError, match="no key"):
            index.whole_keys(["0" * 12])
        with pytest.raises(WardroundError, match="8 digits"):
            index.whole_keys([keys[0][:4]])
        assert index.review([keys[1], keys[2], "absent"], "release") == 2
        assert verdicts(index) == {"nobody": Reason.NO_PATIENT}
        index.review([keys[0]], "withhold")
        assert verdicts(index) == {"nobody": Reason.NO_PATIENT, "clean": Reason.WITHHELD}


def test_a_dicomdir_names_its_files_and_those_that_are_not_there(
    state: Path, tmp_path: Path, dcmtk: dict[str, Path]
) -> None:
    medium = tmp_path / "medium"
    for number in range(3):
        written(radiograph(number, PatientName="CANARY^A"), medium / f"IMG{number}")
    command = [
        str(dcmtk["dcmmkdir"]),
        "+r",
        "-Pgp",
        "+id",
        str(medium),
        "+D",
        str(medium / "DICOMDIR"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (medium / "IMG2").unlink()
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [medium])
        assert verdicts(index) == {"DICOMDIR": Problem.DIRECTORY, "IMG2": Problem.NOT_THERE}
        assert len(index.ready()) == 2
    (state / FILE).unlink()
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [medium / "DICOMDIR"])
        assert len(index.ready()) == 2


def test_another_secret_and_a_damaged_index_are_noticed(state: Path) -> None:
    ImageIndex.open(state).close()
    secret = (state / SECRET).read_bytes()
    (state / SECRET).unlink()
    with pytest.raises(WardroundError) as caught:
        ImageIndex.open(state)
    assert caught.value.code is Code.STATE
    (state / SECRET).write_bytes(bytes(32))
    (state / SECRET).chmod(0o600)
    with pytest.raises(WardroundError, match="another secret"):
        ImageIndex.open(state)
    (state / SECRET).write_bytes(secret)
    ImageIndex.open(state).close()
    (state / FILE).chmod(0o644)
    with pytest.raises(WardroundError, match="open to other users"):
        ImageIndex.open(state)
    (state / FILE).chmod(0o600)
    (state / FILE).write_bytes(b"garbage" * 1000)
    with pytest.raises(WardroundError) as damaged:
        ImageIndex.open(state)
    assert damaged.value.code is Code.STATE


def test_a_folder_that_is_not_there_is_an_error_with_a_remedy(state: Path, tmp_path: Path) -> None:
    with ImageIndex.open(state) as index, pytest.raises(WardroundError) as caught:
        bring_up_to_date(index, [tmp_path / "absent"])
    assert caught.value.code is Code.NO_DATA
    assert caught.value.remedy


def test_the_schema_holds_no_column_beyond_the_allow_list(state: Path) -> None:
    ImageIndex.open(state).close()
    columns = [r[1] for r in sqlite3.connect(state / FILE).execute("PRAGMA table_info(instance)")]
    for name in ("name", "birth", "address", "institution", "physician", "operator", "comment"):
        assert not [c for c in columns if name in c]


def test_a_head_in_ct_or_mr_is_kept_out_unless_the_policy_accepts_it(
    state: Path, tmp_path: Path
) -> None:
    """A face can be drawn from it. No suspicion hides another that the policy does not accept."""
    kinds: dict[str, dict[str, Any]] = {
        "head": {"Modality": "CT", "BodyPartExamined": "HEAD"},
        "film": {"Modality": "DX", "BodyPartExamined": "SKULL"},
        "defaced": {
            "Modality": "MR", "BodyPartExamined": "BRAIN", "RecognizableVisualFeatures": "NO"
        },
        "captured": {"Modality": "CT", "BodyPartExamined": "HEAD", "ConversionType": "WSD"},
        "strange": {"Modality": "LI"},
    }  # fmt: skip
    for number, (name, changes) in enumerate(kinds.items()):
        written(radiograph(2 * number, **changes), tmp_path / "in" / name)
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [tmp_path / "in"])
        heads = {"head": Reason.HEAD, "captured": Reason.HEAD}
        assert verdicts(index) == {**heads, "strange": Reason.AT_RISK}
        index.policy = GatePolicy(frozenset({"CT"}), detect_text=False)
        assert verdicts(index) == {**heads, "strange": Reason.AT_RISK}
        index.policy = GatePolicy(detect_text=False, accept_heads=True)
        assert verdicts(index) == {"captured": Reason.AT_RISK, "strange": Reason.AT_RISK}


def test_other_rules_have_every_file_judged_again_and_leave_decisions_alone(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(radiograph(0), tmp_path / "in" / "plain")
    written(radiograph(2, BurnedInAnnotation="YES"), tmp_path / "in" / "released")
    with ImageIndex.open(state, NO_LOOK) as index:
        bring_up_to_date(index, [tmp_path / "in"])
        (aside,) = index.kept_out()
        assert index.review(index.whole_keys([aside.key]), "release") == 1
        assert len(index.ready()) == 2
    monkeypatch.setattr(indexed, "RULES", RULES + 1)
    for files in (2, 0):
        with ImageIndex.open(state, NO_LOOK) as index:
            assert len(index.ready()) == 2 - files
            assert bring_up_to_date(index, [tmp_path / "in"]).read == files
            assert len(index.ready()) == 2
