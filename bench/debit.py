"""A debit of the privacy ledger, durable when it returns: milliseconds, median of a hundred."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from support.figure import figure, load
from tests.client.hospital import Hospital, numbered

BAR = 20.0
"""Milliseconds, of the issue."""
DEBITS = 100


def main() -> int:
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        hospital = Hospital.found(Path(folder) / "state")
        study = hospital.accept(
            numbered(
                1,
                optimisation__rounds=2 * DEBITS,
                aggregation__attempts=2 * DEBITS + 1,
                privacy__noise_multiplier=9.0,
                evaluation__every=0,
            )
        )
        for attempt in range(1, DEBITS + 1):
            started = time.perf_counter()
            hospital.debit(study, attempt, attempt)
            seconds.append(time.perf_counter() - started)
    median = 1000 * statistics.median(seconds)
    return 0 if figure("debit of an attempt, median", median, "ms", BAR, load=load()) else 1


if __name__ == "__main__":
    sys.exit(main())
