"""A view over 10 million observation rows in Parquet becomes a cohort's table: time and memory.

    python bench/view.py

One JSON line a figure. 200,000 patients with 50 results each, in two units, are generated into a
temporary folder; the view pivots them through value sets and in_unit; a process of its own reads
them with two threads, so that its peak is all that a site needs beside the rest of its daemon.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from support.figure import figure, load

ROWS, PATIENTS = 10_000_000, 200_000
SECONDS, GIGABYTES = 20, 2.0
VIEW = """
WITH measured AS (
  SELECT o.patient, v.name, o.value, o.unit
  FROM observations o JOIN value_set v ON v.system = 'http://loinc.org' AND v.code = o.code
)
SELECT p.patient, p.age, p.died,
  max(in_unit(value, unit, 'mg/dL', 'glucose')) FILTER (name = 'glucose') AS glucose,
  max(in_unit(value, unit, 'mg/dL', 'creatinine')) FILTER (name = 'creatinine') AS creatinine,
  min(in_unit(value, unit, 'mmol/L', 'sodium')) FILTER (name = 'sodium') AS sodium,
  avg(in_unit(value, unit, '/min', 'heart_rate')) FILTER (name = 'heart_rate') AS heart_rate,
  max(in_unit(value, unit, 'Cel', 'temperature')) FILTER (name = 'temperature') AS temperature
FROM measured JOIN patients p USING (patient)
GROUP BY p.patient, p.age, p.died
"""
_GENERATE = f"""
COPY (
  SELECT 'P' || (i % {PATIENTS}) AS patient, TIMESTAMP '2020-01-01' + to_seconds(i) AS taken,
    ['2345-7', '2160-0', '2951-2', '8867-4', '8310-5'][1 + (i // {PATIENTS}) % 5] AS code,
    60 + (i * 31) % 80 + 0.5 AS value,
    CASE (i // {PATIENTS}) % 5 WHEN 0 THEN CASE WHEN i % 3 = 0 THEN 'mmol/L' ELSE 'mg/dL' END
      WHEN 1 THEN CASE WHEN i % 2 = 0 THEN 'umol/L' ELSE 'mg/dL' END WHEN 2 THEN 'mmol/L'
      WHEN 3 THEN '/min' ELSE CASE WHEN i % 2 = 0 THEN '[degF]' ELSE 'Cel' END END AS unit
  FROM range({ROWS}) r(i)
) TO '{{folder}}/observations.parquet'
"""


def read(folder: Path) -> None:
    """Reads the view in this process; prints seconds, rows and peak bytes as JSON."""
    from client.data.sources.settings import Sources
    from client.data.view_reader import read as read_tables

    names = ("observations", "patients")
    sources = Sources(files={name: folder / f"{name}.parquet" for name in names})
    started = time.perf_counter()
    table = read_tables(sources, VIEW, memory=1 << 30, threads=2)
    seconds, cpu = time.perf_counter() - started, time.process_time()
    assert len(table["patient"]) == PATIENTS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak}))


def main() -> int:
    """Generates, reads in a process of its own, and prints both figures."""
    with tempfile.TemporaryDirectory() as name:
        with duckdb.connect() as connection:
            connection.execute("SET threads = 2")
            connection.execute(_GENERATE.format(folder=name))
            connection.execute(
                f"COPY (SELECT 'P' || i AS patient, 20 + i % 70 AS age, i % 9 = 0 AS died"
                f" FROM range({PATIENTS}) r(i)) TO '{name}/patients.parquet'"
            )
        done = subprocess.run(
            [sys.executable, __file__, name], check=True, capture_output=True, text=True
        )
    found = json.loads(done.stdout)
    holds = [
        figure(
            "view_10m_rows_seconds",
            found["seconds"],
            "s",
            SECONDS,
            cpu=round(found["cpu"], 1),
            load=load(),
        ),
        figure("view_10m_rows_peak", found["peak"] / 1e9, "GB", GIGABYTES, rows=ROWS),
    ]
    return 0 if all(holds) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        read(Path(sys.argv[1]))
    else:
        sys.exit(main())
