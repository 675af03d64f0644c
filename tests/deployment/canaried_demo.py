"""`wardround` with a canary among every hospital's patients and sites that record what they add.

    python canaried_demo.py RECORD demo --folder FOLDER

All else is the product: processes, TLS, keys, policies, MLflow. RECORD/canaries.json says what to
look for; nothing but the sites (and this test) ever gets to know that folder.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from launch.cli.main import main
from launch.demo.demo import Demo
from server.coordinator.config import CoordinatorConfig
from tasks.schema import PATIENT, Table
from tasks.shipped.breast_cancer import BreastCancer


def plant(tables: Mapping[str, Table], record: Path) -> dict[str, Table]:
    """Each site's first patient gets an identifier and a first value as nobody else has them."""
    planted: dict[str, Table] = {}
    canaries = {}
    names = [column.name for column in BreastCancer().schema.columns]
    for site, table in tables.items():
        columns = {name: values.copy() for name, values in table.items()}
        columns[PATIENT][0] = f"canary-{site}-{secrets.token_hex(12)}"
        columns[names[0]][0] = 14 + secrets.randbelow(10**12) / 10**12
        canaries[site] = {
            "patient": str(columns[PATIENT][0]),
            "value": float(columns[names[0]][0]),
            "record": [float(columns[name][0]) for name in names],
            "features": BreastCancer().features(columns)[0].tolist(),
        }
        planted[site] = columns
    (record / "canaries.json").write_text(json.dumps(canaries))
    return planted


def canaried(record: Path) -> None:
    public, commands = BreastCancer.public_sites, Demo._commands

    def public_sites(self: BreastCancer, root: Path | None = None) -> Mapping[str, Table]:
        return plant(public(self, root), record)

    def recorded(
        self: Demo, coordinator: CoordinatorConfig, sites: list[str]
    ) -> list[tuple[str, list[str]]]:
        script = str(Path(__file__).with_name("recording_site.py"))
        return [
            (
                name,
                [sys.executable, script, str(record / name.removeprefix("site-")), *command[1:]]
                if name.startswith("site-")
                else command,
            )
            for name, command in commands(self, coordinator, sites)
        ]

    patch.object(BreastCancer, "public_sites", public_sites).start()
    patch.object(Demo, "_commands", recorded).start()


if __name__ == "__main__":
    canaried(Path(sys.argv.pop(1)))
    main()
