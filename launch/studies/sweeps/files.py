"""A sweep's files: sweep.json, sweep.csv and, where something finished, sweep.png."""

from __future__ import annotations

from pathlib import Path

from launch.studies.sweeps.figure import utility
from launch.studies.sweeps.result import SweepResult
from protocol import durable_files


def write(result: SweepResult, folder: Path) -> dict[str, bytes]:
    """Writes them into `folder`. Returns name -> content."""
    files = {"sweep.json": result.to_json(), "sweep.csv": result.to_csv()}
    if result.finished:
        files["sweep.png"] = utility(result)
    for name, content in files.items():
        durable_files.write(folder / name, content, mode=durable_files.PUBLIC)
    return files
