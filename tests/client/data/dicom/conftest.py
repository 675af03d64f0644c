"""The real peers: dcmtk's commands and Orthanc, both Debian packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.debian import program

_DCMTK = ("storescu", "storescp", "dcmsend", "echoscu", "dcmmkdir", "dsrdump")


@pytest.fixture(scope="session")
def dcmtk() -> dict[str, Path]:
    """By name, those of _DCMTK."""
    return {name: program(name, "dcmtk") for name in _DCMTK}


@pytest.fixture(scope="session")
def orthanc() -> Path:
    """The Orthanc server."""
    return program("Orthanc", "orthanc")


@pytest.fixture(scope="session")
def dicom3tools() -> Path:
    """dciodvfy, which compares an object with its definition in the standard."""
    return program("dciodvfy", "dicom3tools")
