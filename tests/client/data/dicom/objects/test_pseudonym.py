"""A patient's pseudonym is of the Patient ID and of who issued it, where that is stated."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from client.data.dicom.index import images_table
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.objects.gate import GatePolicy, Reason
from client.data.dicom.objects.pseudonym import Pseudonyms
from tests.client.data.dicom.dicom_files import radiograph, written

NAMES = Pseudonyms(bytes(32))


@pytest.mark.parametrize("nobody", ["", "  ", "\0"])
def test_without_an_issuer_the_patient_goes_by_the_id_alone(nobody: str) -> None:
    assert NAMES.of_patient("77 ", nobody) == NAMES.of("77")


def test_padding_is_part_of_neither() -> None:
    assert NAMES.of_patient("77 ", " A\0") == NAMES.of_patient("77", "A")
    assert len({NAMES.of_patient("77", issuer) for issuer in ("", "A", "B")}) == 3


def test_a_table_joins_by_id_and_issuer(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for number, issuer in ((0, "NORTH"), (2, "SOUTH"), (4, "")):
        dataset = radiograph(number, PatientID="77", IssuerOfPatientID=issuer)
        written(dataset, tmp_path / "in" / str(number))
    with ImageIndex.open(state, GatePolicy(detect_text=False)) as index:
        bring_up_to_date(index, [tmp_path / "in"], workers=1)
        with duckdb.connect() as connection:
            images_table.register(connection, index)
            joined = connection.execute(
                "SELECT count(*) FROM"
                " (VALUES (77, 'NORTH'), (77, 'SOUTH'), (77, NULL)) AS p(id, who)"
                " JOIN images ON images.patient = pseudonym(p.id, issuer := p.who)"
            ).fetchone()
            alone = connection.execute(
                "SELECT count(*) FROM images WHERE patient = pseudonym('77')"
            ).fetchone()
    assert (joined, alone) == ((3,), (1,))


def test_one_id_of_two_issuers_in_one_study_is_noticed(tmp_path: Path) -> None:
    """An archive that adds its own issuer to some objects of a study: both are set aside."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for number, issuer in ((0, "ABCD"), (1, "ARCHIVE")):
        dataset = radiograph(number, PatientID="77", IssuerOfPatientID=issuer)
        dataset.StudyInstanceUID, dataset.AccessionNumber = "1.2.9", ""
        written(dataset, tmp_path / "in" / str(number))
    with ImageIndex.open(state, GatePolicy(detect_text=False)) as index:
        bring_up_to_date(index, [tmp_path / "in"], workers=1)
        assert index.counts() == {Reason.TWO_PATIENTS_STUDY: 2}
