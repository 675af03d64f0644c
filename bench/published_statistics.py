"""Every figure of what `wardround analyse` claims, one JSON line each: the door to four benchmarks.

    python bench/published_statistics.py [--runs 2000]

Runs, each in a process of its own: `analyses.py` (noised tables), `harmonisation.py` (differences
between hospitals), `exact_analyses.py` (against statsmodels and lifelines), `cox_over_tls.py` (four
daemons). It is not called statistics.py: a script's folder comes first on Python's path, where a
file of that name would stand in the place of the standard library's module.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000, help="of each simulation")
    runs = ("--runs", str(parser.parse_args().runs))
    asked = (
        ("analyses.py", *runs),
        ("harmonisation.py", *runs),
        ("exact_analyses.py",),
        ("cox_over_tls.py",),
    )
    ended = [
        subprocess.run([sys.executable, HERE / name, *options], check=False).returncode
        for name, *options in asked
    ]
    return int(any(ended))


if __name__ == "__main__":
    sys.exit(main())
