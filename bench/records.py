"""The same patients as FHIR, OMOP and CSV give the same cohorts; a large CSV in little memory.

    python bench/records.py [--seeds N] [--patients N] [--rows N]

One JSON line a figure. The patients are those of `tests/client/data/same_patients.py`: stays in
parts, intensive care, outpatients, bookings, cancelled encounters, any offset from UTC, days alone
or midnights, deaths that one source alone tells, and deaths without a date. On the ward
(`same_wards.py`) they have results in any unit, medicines, procedures and arrests, with second
codings, corrections and mistakes; `same_appointments.py` has what they kept and missed. What each
route says of stays, readmissions, intensive care, deterioration and missed appointments is
compared, value by value, with what is worked out apart from SQL, in pandas. The CSV file is read by
a process of its own, so that its peak is all.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import duckdb

from support.figure import figure, load
from tests.client.data import (
    same_appointments,
    same_patients,
    same_wards,
    ward_landmarks,
    ward_records,
)
from tests.client.data.same_patients import Patient, Route, Style

MEGABYTES = 600.0
_GENERATE = """
COPY (
  SELECT 10000000000000000000::UHUGEINT + i AS patient,
    strftime(TIMESTAMP '2020-01-01' + to_seconds(i), '%Y-%m-%d %H:%M:%S') AS taken,
    ['2345-7', '2160-0', '2951-2'][1 + i % 3] AS code, 60 + (i * 31) % 80 + 0.5 AS value,
    'mg/dL' AS unit
  FROM range({rows}) r(i)
) TO '{path}' (HEADER)
"""
_VIEW = "SELECT code, avg(value) AS value, max(taken) AS last FROM t GROUP BY code"


FIGURES = {
    "records": "patients and stays",
    "landmarks": "values of deterioration",
    "appointments": "rows of no_show",
}


def differing(seed: int, number: int) -> Counter[tuple[str, Route]]:
    """Of each figure and route: of how many it says anything else than is true."""
    patients = same_patients.draw(seed, number)
    ward = same_wards.draw(patients, seed)
    appointments = same_appointments.draw(patients, seed)
    wrong = Counter[tuple[str, Route]]()
    for style in same_patients.STYLES:
        landmarks = ward_landmarks.landmarks(ward, style)
        for route in same_patients.ROUTES:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                wrong["records", route] += _of_stays(folder / "stays", patients, route, style)
                sources = ward_records.sources(folder / "ward", ward, route, style)
                found = ward_records.found(sources, route)
                wrong["landmarks", route] += len(ward_landmarks.differing(found, landmarks))
                told = same_appointments.found(
                    folder / "appointments", patients, appointments, route, style
                )
            wanted = same_appointments.expected(patients, appointments, route, style)
            wrong["appointments", route] += (told - wanted).total() + (wanted - told).total()
    return wrong


def _of_stays(folder: Path, patients: list[Patient], route: Route, style: Style) -> int:
    wanted = same_patients.answers(patients)
    found = same_patients.found(same_patients.sources(folder, patients, route, style), route)
    return sum(
        len(dict(one.items() ^ other.items()))
        for one, other in (
            (found.cohort, wanted.cohort),
            (found.deaths, wanted.deaths),
            (found.intensive, wanted.intensive),
        )
    )


def read(path: Path) -> None:
    """Reads the CSV file in this process; prints seconds and peak bytes as JSON."""
    from client.data.sources.settings import Sources
    from client.data.view_reader import read_here

    started = time.perf_counter()
    reading = read_here(Sources(files={"t": path}), _VIEW, (), 2 << 30, 2, None, None)
    if isinstance(reading.table, Exception):
        raise reading.table
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    asked = parser.parse_args()
    wrong = Counter[tuple[str, Route]]()
    for seed in range(asked.seeds):
        wrong += differing(seed, asked.patients)
        print(f"seed {seed}: {wrong.total()} differ so far", file=sys.stderr, flush=True)
    size = {"patients": asked.patients, "seeds": asked.seeds}
    held = [
        figure(f"{name}_differing_{route}", wrong[name, route], unit, 0, **size)
        for name, unit in FIGURES.items()
        for route in same_patients.ROUTES
    ]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "t.csv"
        duckdb.execute(_GENERATE.format(rows=asked.rows, path=path))
        command = [sys.executable, __file__, "--read", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    more = {"rows": asked.rows, "seconds": round(found["seconds"], 1), "load": load()}
    held.append(figure("csv_peak", found["peak"] / 1e6, "MB", MEGABYTES, **more))
    return 0 if all(held) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(Path(sys.argv[2]))
    else:
        sys.exit(main())
