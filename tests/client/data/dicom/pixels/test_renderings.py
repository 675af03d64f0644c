"""Public files beside dcmtk's rendering of them: no pixel further off than 2 of 255."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.renderings import BAR, EXCEPTIONS, compared

DATA = Path(os.environ.get("WARDROUND_DATA", "nowhere")) / "dicom"


@pytest.mark.skipif(not DATA.is_dir(), reason="WARDROUND_DATA has no folder dicom")
@pytest.mark.skipif(shutil.which("dcml2pnm") is None, reason="dcmtk is not installed")
def test_public_files_look_as_another_program_renders_them() -> None:
    found = {one.name: one.far for one in compared()}
    assert len(found) > 100
    assert {name for name, far in found.items() if far is None or far > BAR} == set(EXCEPTIONS)
