"""`python -m tests.mutants [NAME ...]`: puts faults into copies of the code; tests must notice."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from tests.mutants.mutants import AREAS, Mutant, load
from tests.mutants.run import UnchangedFailsError, Verdict, verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where every mutant died, 1 where one did not, 2 where none could be judged."""
    asked = _parser().parse_args(arguments)
    mutants = load()
    if unknown := sorted(set(asked.names) - {mutant.name for mutant in mutants}):
        print(f"No mutant is called {unknown[0]}. See --list.", file=sys.stderr)
        return 2
    chosen = [m for m in mutants if _chosen(m, asked.names, asked.sample)]
    if asked.list:
        for mutant in chosen:
            print(f"{mutant.area:20}{mutant.name:34}{mutant.breaks}")
        return 0
    found: list[Verdict] = []
    print(f"{len(chosen)} mutants; first their tests without any", file=sys.stderr, flush=True)
    try:
        for verdict in verdicts(chosen, workers=asked.workers, limit=asked.limit):
            found.append(verdict)
            print(_line(verdict, len(found), len(chosen)), file=sys.stderr, flush=True)
    except UnchangedFailsError as error:
        print(f"The tests fail without a mutant, too:\n{error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps([_plain(one) for one in found], indent=1) if asked.json else _table(found))
    return int(any(verdict.fate != "died" for verdict in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to run (default: all)")
    parser.add_argument("--sample", action="store_true", help="only those that the suite runs")
    parser.add_argument("--list", action="store_true", help="say what they are, and run none")
    parser.add_argument("--json", action="store_true", help="the verdicts as JSON")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time (default 2)")
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds for the tests of one (default 600)"
    )
    return parser


def _chosen(mutant: Mutant, names: Sequence[str], sample: bool) -> bool:
    return mutant.name in names if names else mutant.sample or not sample


def _line(verdict: Verdict, number: int, of: int) -> str:
    how = f"{verdict.test}: {verdict.error}" if verdict.test else ""
    line = f"{number}/{of} {verdict.fate:9}{verdict.mutant.name:34}{verdict.seconds:5.0f} s  {how}"
    return line if verdict.fate == "died" else f"{line}\n{verdict.output}"


def _plain(verdict: Verdict) -> dict[str, object]:
    mutant = verdict.mutant
    plain: dict[str, object] = {"name": mutant.name, "area": mutant.area, "file": mutant.file}
    return plain | {
        "fate": verdict.fate,
        "test": verdict.test,
        "error": verdict.error,
        "seconds": round(verdict.seconds, 1),
    }


def _table(found: Sequence[Verdict]) -> str:
    """How many died of each area, and which did not."""
    lines = []
    for area in AREAS:
        of_area = [verdict for verdict in found if verdict.mutant.area == area]
        if of_area:
            died = sum(verdict.fate == "died" for verdict in of_area)
            lines.append(f"{area:20}{died:3} of {len(of_area):3} died")
    lines += [
        f"{verdict.fate.upper()}: {verdict.mutant.name}: {verdict.mutant.breaks}"
        for verdict in found
        if verdict.fate != "died"
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
