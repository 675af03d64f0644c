"""The same patients as FHIR, OMOP and CSV give the same cohort; a large CSV file in little memory.

    python bench/records.py [--seeds N] [--patients N] [--rows N]

One JSON line a figure. The patients are those of `tests/client/data/same_patients.py`: stays in
parts, intensive care, outpatients, bookings, cancelled encounters, any offset from UTC, days alone
or midnights, deaths that one source alone tells, and deaths without a date. What each route says is
compared, patient by patient, with what the generator works out by itself. The CSV file is read by a
process of its own, so that its peak is all.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from support.figure import figure, load
from tests.client.data import same_patients

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


def differing(seed: int, number: int) -> dict[str, int]:
    """Of each route: patients and stays of which it says anything else than is true."""
    patients = same_patients.draw(seed, number)
    wanted = same_patients.answers(patients)
    wrong: dict[str, int] = dict.fromkeys(same_patients.ROUTES, 0)
    for route in same_patients.ROUTES:
        for style in same_patients.STYLES:
            with tempfile.TemporaryDirectory() as name:
                sources = same_patients.sources(Path(name) / route, patients, route, style)
                found = same_patients.found(sources, route)
            wrong[route] += len(dict(found.cohort.items() ^ wanted.cohort.items()))
            wrong[route] += len(dict(found.deaths.items() ^ wanted.deaths.items()))
            wrong[route] += len(dict(found.intensive.items() ^ wanted.intensive.items()))
    return wrong


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
    wrong: dict[str, int] = dict.fromkeys(same_patients.ROUTES, 0)
    for seed in range(asked.seeds):
        for route, count in differing(seed, asked.patients).items():
            wrong[route] += count
    size = {"patients": asked.patients, "seeds": asked.seeds}
    held = [
        figure(f"records_differing_{route}", count, "patients and stays", 0, **size)
        for route, count in wrong.items()
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
