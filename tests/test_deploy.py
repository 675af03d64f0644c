"""The files of deploy/: units that are hardened alike, alerts on figures that are served."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
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
