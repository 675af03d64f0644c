"""A data scientist's permit file becomes a signed study, or an error that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from launch.cli.main import app
from launch.studies.permit import under_permit
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.permit import check_signature
from protocol.study.study import Study
from tests.protocol.study_document import study

FILE = {
    "identifier": "DAR-2026-0417",
    "legal_basis": "Regulation (EU) 2025/327, article 68",
    "persons": ["Ada Byron", "Max Huber"],
    "expires": "2027-03-31",
    "person": "Ada Byron",
    "key": "ada.pem",
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "permit.yaml"
    path.write_text(yaml.safe_dump(FILE | changes))
    return path


def test_the_study_is_signed_and_reads_as_it_was_written(tmp_path: Path) -> None:
    ada = Identity.generate()
    ada.save(tmp_path / "ada.pem")
    signed = under_permit(study(), written(tmp_path))
    assert signed.permit is not None
    assert signed.permit.public_key == ada.public_key.hex()
    check_signature(signed.document, Study.parse(signed.document).permit or signed.permit)
    assert under_permit(study(), "") == study()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"person": "Eve"}, "none of the persons"),
        ({"expires": "soon"}, "expires"),
        ({"persons": []}, "persons"),
        ({"licence": "x"}, "licence"),
    ],
)
def test_a_file_that_is_no_permit_is_refused(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    Identity.generate().save(tmp_path / "ada.pem")
    with pytest.raises(WardroundError, match=says) as caught:
        under_permit(study(), written(tmp_path, **changes))
    assert caught.value.code is Code.CONFIGURATION


def test_without_its_key_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WardroundError) as caught:
        under_permit(study(), written(tmp_path))
    assert caught.value.code is Code.IDENTITY
    assert "wardround key" in caught.value.remedy


def test_the_command_makes_a_key_once_and_shows_its_public_half(tmp_path: Path) -> None:
    path = tmp_path / "ada.pem"
    done = CliRunner().invoke(app, ["key", str(path)])
    assert done.exit_code == 0
    assert Identity.load(path).public_key.hex() in done.stdout
    assert path.stat().st_mode & 0o077 == 0
    again = CliRunner().invoke(app, ["key", str(path)])
    assert isinstance(again.exception, WardroundError)
    assert again.exception.code is Code.IDENTITY
