"""The files of deploy/: units and containers that are hardened alike, alerts on what is served."""

import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from server.coordinator.setup import create
from tests.client.daemon_federation import RULES, TASK

DEPLOY = Path(__file__).parent.parent / "deploy"
CONTAINERS = DEPLOY / "containers"
UNITS = sorted(DEPLOY.glob("*.service"))
SOURCES = {
    "wardround_site_": "client/daemon/metrics.py",
    "wardround_receiver_": "client/daemon/receiver_service.py",
    "wardround_coordinator_": "server/coordinator/operations/metrics.py",
}
HARDENED = (
    "NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices",
    "ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups", "ProtectClock",
    "RestrictNamespaces", "RestrictSUIDSGID", "LockPersonality", "SystemCallFilter",
    "CapabilityBoundingSet", "UMask", "LimitCORE", "RestrictAddressFamilies",
)  # fmt: skip


def service(unit: Path) -> dict[str, str]:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment]  # systemd's keys have capitals
    read.read_string(unit.read_text())
    return dict(read["Service"])


def test_every_process_has_a_unit() -> None:
    assert [unit.stem for unit in UNITS] == [
        "wardround-coordinator", "wardround-mlflow", "wardround-predict", "wardround-receive",
        "wardround-site",
    ]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_are_hardened_alike_and_restart(unit: Path) -> None:
    keys = service(unit)
    like = service(DEPLOY / "wardround-site.service")
    assert {key: keys[key] for key in HARDENED} == {key: like[key] for key in HARDENED}
    assert keys["Restart"] in {"on-failure", "always"}
    assert keys["User"] != "root"
    assert keys["ReadWritePaths"] == f"/var/lib/{keys['StateDirectory']}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    """With a program that is there in place of ours."""
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"/opt/wardround/bin/[a-z-]+", "/bin/true", unit.read_text()))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]


def test_alerts_are_on_figures_that_are_served() -> None:
    groups = yaml.safe_load((DEPLOY / "wardround-alerts.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 8
    root = DEPLOY.parent
    for rule in rules:
        assert {"summary", "remedy"} == set(rule["annotations"])
        named = re.findall(r"wardround_[a-z_]+", rule["expr"])
        assert named, rule
        for metric in named:
            prefix = next(prefix for prefix in SOURCES if metric.startswith(prefix))
            name = metric.removeprefix(prefix).removesuffix("_total")
            text = (root / SOURCES[prefix]).read_text()
            assert f'"{name}"' in text or f"_{name}" in text, metric


@pytest.mark.parametrize("role", ["site", "coordinator"])
def test_containers_run_as_nobody_on_a_root_that_cannot_be_written(role: str) -> None:
    compose = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())
    service, built = compose["services"][role], containerfile(role)
    release = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert service["memswap_limit"] == service["mem_limit"]  # no swap
    assert service["image"] == f"wardround-{role}:{release}"
    assert service["user"] == built["USER"] != "0:0"
    assert service["build"]["network"] == "none"
    assert service["build"]["dockerfile"] == f"deploy/containers/{role}.Containerfile"
    assert any(volume.endswith(f":{built['VOLUME']}") for volume in service["volumes"])
    assert "ports" not in service or role == "coordinator"


@pytest.mark.parametrize("role", ["site", "coordinator"])
def test_a_container_whose_daemon_does_not_run_is_unhealthy(role: str, tmp_path: Path) -> None:
    """The command of HEALTHCHECK on a folder that was set up and not started, and on none."""
    there = tmp_path / "set_up"
    command = json.loads(re.split(r"\bCMD ", containerfile(role)["HEALTHCHECK"])[1])
    if role == "site":
        new_site.init(there, SiteAnswers("north", **{"data": {TASK: tmp_path}} | RULES))
    else:
        create(there, ["127.0.0.1"], 9092, None, "ours")
    for folder in (there, tmp_path / "none"):
        env = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "WARDROUND_SITE": str(folder),
            "WARDROUND_COORDINATOR_FOLDER": str(folder),
        }
        assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 1


def containerfile(role: str) -> dict[str, str]:
    """Instruction -> its arguments, of the last stage."""
    text = (CONTAINERS / f"{role}.Containerfile").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1].strip() for line in lines}
