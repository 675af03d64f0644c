"""The real peers: dcmtk's commands and Orthanc, both Debian packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_PACKAGES = {
    "dcmtk": ["storescu", "dcmsend", "echoscu", "dcmmkdir"],
    "orthanc": ["Orthanc"],
    "dicom3tools": ["dciodvfy"],
}
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def _found(commands: Sequence[str]) -> dict[str, Path] | None:
    paths = {command: shutil.which(command, path=_PATH) for command in commands}
    if not all(paths.values()):
        return None
    return {command: Path(path) for command, path in paths.items() if path}


def _installed(package: str) -> dict[str, Path]:
    """The package's commands, installed where this user may."""
    commands = _PACKAGES[package]
    if (found := _found(commands)) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        nowhere = subprocess.DEVNULL
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", package]):
            command = ["apt-get", "-q", *arguments]
            subprocess.run(command, env=env, timeout=280, stdout=nowhere, stderr=nowhere)
    if (found := _found(commands)) is None:
        pytest.fail(
            f"These tests need the Debian package {package} ({', '.join(commands)}), which is not "
            f"here and could not be installed. Run: apt-get install {package}"
        )
    return found


@pytest.fixture(scope="session")
def dcmtk() -> dict[str, Path]:
    """storescu, dcmsend, echoscu, dcmmkdir."""
    return _installed("dcmtk")


@pytest.fixture(scope="session")
def orthanc() -> Path:
    """The Orthanc server."""
    return _installed("orthanc")["Orthanc"]


@pytest.fixture(scope="session")
def dicom3tools() -> Path:
    """dciodvfy, which compares an object with its definition in the standard."""
    return _installed("dicom3tools")["dciodvfy"]
