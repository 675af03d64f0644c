"""Mutated files: no crash, no hang, no identifier in anything that comes out."""

from __future__ import annotations

import json
import os
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from pydicom.uid import UID, JPEG2000Lossless, RLELossless
from rich.console import Console

from client.data.dicom.index import report
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.objects.file_scan import named_by
from client.data.dicom.objects.header import Problem
from client.data.dicom.receive.receiver import peek
from support.mutations import mutations
from tests.client.data.dicom.dicom_files import CANARIES, radiograph, written

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround")) / "dicom"


def seeds(folder: Path) -> list[Path]:
    """Own objects in several encodings, and the public stress set where it is."""
    paths = [
        written(radiograph(0), folder / "explicit"),
        written(radiograph(2), folder / "implicit", "1.2.840.10008.1.2"),
        written(radiograph(4), folder / "deflated", "1.2.840.10008.1.2.1.99"),
    ]
    for number, syntax in ((6, RLELossless), (8, JPEG2000Lossless)):
        dataset = radiograph(number)
        written(dataset, folder / syntax.name)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(folder / syntax.name, enforce_file_format=True)
        paths.append(folder / syntax.name)
    public = sorted(p for p in ROOT.rglob("*.dcm") if p.stat().st_size < 300_000)
    return paths * 3 + public


def test_mutated_files_cost_a_row_each(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    files = mutations(seeds(tmp_path / "seeds"), tmp_path / "in", 150, seed=5)
    with ImageIndex.open(state) as index:
        tally = bring_up_to_date(index, [tmp_path / "in"])
        assert tally.read == len(files) == sum(tally.verdicts.values())
        assert Problem.SLOW not in tally.verdicts
        found = report.of(index)
        screen = StringIO()
        report.show(found, Console(file=screen))
        report.write_html(found, tmp_path / "report.html", "alpha")
        said = json.dumps([report.plain(found), index.ready(), tally.verdicts])
        reasons = {aside.verdict for aside in index.kept_out()}
    outputs = [screen.getvalue().encode(), said.encode(), (tmp_path / "report.html").read_bytes()]
    outputs += [path.read_bytes() for path in state.iterdir()]
    for output in outputs:
        assert not any(canary in output for canary in CANARIES)
    assert len(reasons) > 4


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"]
)
def test_the_receiver_peeks_at_anything(tmp_path: Path, syntax: str) -> None:
    source = written(radiograph(0), tmp_path / "seed", syntax)
    for path in mutations([source], tmp_path / "in", 120, seed=7):
        found = peek(path.read_bytes()[300:], UID(syntax))
        assert found is None or len(found) == 3


def test_a_mutated_dicomdir_names_only_what_lies_beside_it(
    tmp_path: Path, dcmtk: dict[str, Path]
) -> None:
    for number in range(3):
        written(radiograph(number), tmp_path / f"IMG{number}")
    command = [
        str(dcmtk["dcmmkdir"]),
        "-Pgp",
        "+id",
        str(tmp_path),
        "+D",
        str(tmp_path / "DICOMDIR"),
    ]
    subprocess.run([*command, "IMG0", "IMG1", "IMG2"], check=True, capture_output=True)
    assert named_by(tmp_path / "DICOMDIR") == [tmp_path / f"IMG{n}" for n in range(3)]
    climbing = (tmp_path / "DICOMDIR").read_bytes().replace(b"IMG1", b"..\\X")
    (tmp_path / "climbing").write_bytes(climbing)
    assert sorted(named_by(tmp_path / "climbing")) == [tmp_path / "IMG0", tmp_path / "IMG2"]
    for path in mutations([tmp_path / "DICOMDIR"], tmp_path / "in", 100, seed=9):
        assert all(named.is_relative_to(path.parent) for named in named_by(path))
