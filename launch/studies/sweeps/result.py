"""The result of a sweep: one row a study, grouped over seeds, as table, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from rich.table import Table
from rich.text import Text

from protocol.document import finite
from protocol.terminal.printable import printable

SEED = "seed"
"""The key over which runs are repetitions of one another."""
_SHOWN = {"auc": "ROC AUC", "average_precision": "average precision", "accuracy": "accuracy"}


@dataclass(frozen=True)
class SweepRow:
    """One study of a sweep; `error` and its `code` where it failed."""

    values: dict[str, str]
    study: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    epsilon: float | None = None
    seconds: float = 0.0
    error: str = ""
    code: str = ""

    def line(self) -> str:
        """For a log."""
        values = " ".join(f"{key}={value}" for key, value in self.values.items())
        if self.error:
            return f"{values}: failed ({self.code}): {self.error}"
        figures = "".join(
            f" {name} {self.metrics[name]:.3f}" for name in _SHOWN if name in self.metrics
        )
        return f"{values}:{figures} {self.seconds:.1f} s"


@dataclass(frozen=True)
class SweepGroup:
    """Studies that differ in their seed alone: mean and standard deviation of their metrics."""

    values: dict[str, str]
    studies: int
    mean: dict[str, float]
    deviation: dict[str, float]
    """Over seeds, with n - 1; 0 where there is one."""


class SweepResult:
    """All rows, in the order in which they came."""

    def __init__(
        self, overrides: Sequence[str], keys: Sequence[str], rows: Sequence[SweepRow] = ()
    ) -> None:
        self.overrides, self.keys, self.rows = tuple(overrides), tuple(keys), list(rows)

    def add(self, row: SweepRow) -> None:
        self.rows.append(row)

    @property
    def finished(self) -> list[SweepRow]:
        return [row for row in self.rows if not row.error]

    def groups(self) -> list[SweepGroup]:
        """In the order of the swept values, as numbers where they are."""
        rows: dict[tuple[str, ...], list[SweepRow]] = {}
        for row in self.finished:
            rows.setdefault(tuple(row.values[key] for key in self.axes), []).append(row)
        return [
            self._group(dict(zip(self.axes, values, strict=True)), rows[values])
            for values in sorted(rows, key=lambda values: [*map(_sortable, values)])
        ]

    @property
    def axes(self) -> tuple[str, ...]:
        """The swept keys but the seed."""
        return tuple(key for key in self.keys if key != SEED)

    def metrics(self) -> dict[str, float]:
        """Of the whole sweep: how many studies finished, and the best group's mean AUC."""
        metrics = {"studies_finished": float(len(self.finished))}
        metrics["studies_failed"] = float(len(self.rows) - len(self.finished))
        if scored := [group.mean["auc"] for group in self.groups() if "auc" in group.mean]:
            metrics["best_mean_auc"] = max(scored)
        return metrics

    @staticmethod
    def load(folder: Path) -> SweepResult:
        """The result whose sweep.json lies in a folder."""
        plain = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        return SweepResult(
            plain["words"], plain["keys"], [SweepRow(**row) for row in plain["runs"]]
        )

    def table(self) -> Table:
        """Mean and deviation of every group."""
        table = Table(title="Sweep", title_justify="left", box=None)
        for key in self.axes or ("",):
            table.add_column(Text(key), justify="right")
        for heading in ("studies", *_SHOWN.values()):
            table.add_column(heading, justify="right")
        for group in self.groups():
            table.add_row(
                *(Text(printable(value)) for value in group.values.values() or ("all",)),
                str(group.studies),
                *(_spread(group, name) for name in _SHOWN),
            )
        return table

    def _group(self, values: dict[str, str], rows: Sequence[SweepRow]) -> SweepGroup:
        names = [name for name in rows[0].metrics if all(name in row.metrics for row in rows)]
        columns = {name: [row.metrics[name] for row in rows] for name in names}
        return SweepGroup(
            values,
            len(rows),
            {name: fmean(of) for name, of in columns.items()},
            {name: stdev(of) if len(of) > 1 else 0.0 for name, of in columns.items()},
        )

    def to_json(self) -> bytes:
        """Overrides (under the key `words`), groups and runs."""
        plain = {
            "words": self.overrides,
            "keys": self.keys,
            "groups": [finite(asdict(group)) for group in self.groups()],
            "runs": [finite(asdict(row)) for row in self.rows],
        }
        return json.dumps(plain, indent=2, allow_nan=False).encode() + b"\n"

    def to_csv(self) -> bytes:
        """One line a run."""
        names = sorted({name for row in self.rows for name in row.metrics})
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([*self.keys, *names, "epsilon", "seconds", "study", "error"])
        for row in self.rows:
            writer.writerow(
                [
                    *(row.values[key] for key in self.keys),
                    *(row.metrics.get(name, "") for name in names),
                    "" if row.epsilon is None else row.epsilon,
                    round(row.seconds, 3),
                    row.study,
                    row.error,
                ]
            )
        return text.getvalue().encode()


def number(value: str) -> float | None:
    """A swept value as a finite number, where it is one."""
    try:
        converted = float(value)
    except ValueError:
        return None
    return converted if math.isfinite(converted) else None


def _sortable(value: str) -> tuple[float, str]:
    as_number = number(value)
    return (math.inf, value) if as_number is None else (as_number, "")


def _spread(group: SweepGroup, name: str) -> str:
    if name not in group.mean:
        return ""
    deviation = f" ± {group.deviation[name]:.3f}" if group.studies > 1 else ""
    return f"{group.mean[name]:.3f}{deviation}"
