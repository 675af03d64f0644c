"""Writes what this release leaves behind, for later releases: `python -m tests.golden.make`.

Run once, by the release that the folder it makes is named after (0.1.0 was made by 0.1.0), and
again only for a new release, whose files then stand beside the older ones. It refuses where that
folder is there already: golden files are never made again. Takes some minutes. Whatever is in the
folder was written by the product itself; only the clock of the hospital and the days of the
certificates were set, so that no test depends on the day.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PLUG_IN = HERE / "plug_in"
RECORDS = PLUG_IN / "records"
_PATIENTS = {"east": 110, "north": 120, "south": 95, "west": 85}


def write_records() -> None:
    """The made-up patients of the plug-in's task; some have two records, some no pressure."""
    drawn = np.random.default_rng(20240304)
    RECORDS.mkdir()
    for site, patients in _PATIENTS.items():
        with (RECORDS / f"{site}.csv").open("w", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(["patient", "age", "pressure", "sex", "ward", "recovered"])
            for number in range(patients):
                age, sex = int(drawn.integers(18, 98)), str(drawn.choice(["f", "m"]))
                for _ in range(int(drawn.integers(1, 3)) if number % 3 == 0 else 1):
                    pressure = int(drawn.normal(130, 22))
                    odds = 3.0 - 0.05 * age + 0.02 * (pressure - 130) + drawn.normal(0, 0.7)
                    known = pressure if drawn.random() > 0.1 else ""
                    ward = str(drawn.choice(["medical", "surgical", "other"]))
                    row = [f"{site}-{number:03d}", age, known, sex, ward, int(odds > 0)]
                    out.writerow(row)


def main() -> None:
    release = version("wardround")
    target = HERE / release
    if target.exists():
        sys.exit(f"{target} is there already: golden files are made once.")
    if not RECORDS.exists():
        write_records()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(PLUG_IN))
    from tests.golden.make_documents import make_documents
    from tests.golden.make_federation import make_federation
    from tests.golden.make_results import make_results
    from tests.golden.make_twins import TWINS, make_site_facts

    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        made = Path(scratch) / release
        made.mkdir()
        (made / TWINS).mkdir()
        federation = make_federation(made)
        make_documents(made, federation)
        make_results(made)
        make_site_facts(made, federation)
        shutil.copytree(made, target)
    for path in (target, *target.rglob("*")):  # as git gives them back
        path.chmod(0o755 if path.is_dir() else 0o644)
    print(f"Made {target}. Commit it, and never change it.")


if __name__ == "__main__":
    main()
