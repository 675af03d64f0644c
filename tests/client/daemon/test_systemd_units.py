"""The systemd units of a site: valid, hardened, and what they start exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = [_DEPLOY / "wardround-receive.service", _DEPLOY / "wardround-site.service"]
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectControlGroups": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "CapabilityBoundingSet": "",
    "IPAddressDeny": "any",
    "UMask": "0077",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
}


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def directives(unit: Path) -> dict[str, list[tuple[str, str]]]:
    """Section -> its (key, value) lines. Raises where a line is neither."""
    sections: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in unit.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]+", key), line
        current.append((key, value))
    return sections


def test_every_fence_stands(unit: Path) -> None:
    service = dict(directives(unit)["Service"])
    assert {key: service.get(key) for key in HARDENED} == HARDENED
    assert service["User"] != "root"
    if service["Type"] == "notify":
        assert int(service["WatchdogSec"]) > 30
    assert "MemoryMax" in service


def test_it_starts_a_command_that_is_there(unit: Path) -> None:
    command = dict(directives(unit)["Service"])["ExecStart"].split()
    assert Path(command[0]).name == "wardround-site"
    script = "from client.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *command[1:], "--help"],
        capture_output=True,
        text=True,
        cwd=unit.parents[1],
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def installed(unit: Path, tmp_path: Path) -> Path:
    """The unit as it would stand on this machine: its command is found."""
    here = tmp_path / unit.name
    command = shutil.which("true") or "/bin/true"
    here.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={command}", unit.read_text()))
    return here


def test_systemd_finds_no_fault_and_little_exposure(unit: Path, installed: Path) -> None:
    """`make test` has systemd where Debian's package is; elsewhere the lines themselves are all
    there is to check, and the tests above do."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert {"Unit", "Service", "Install"} == set(directives(unit))
        return
    verified = subprocess.run([analyze, "verify", installed], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    scored = subprocess.run(
        [analyze, "security", "--offline=yes", "--no-pager", installed],
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", scored.stdout)
    assert found, scored.stdout + scored.stderr
    assert float(found[1]) <= 1.5
