"""The report of an audit: audit.md for people, audit.png beside it, summary.json for programs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.privacy_audit.bounds import CONFIDENCE
from client.privacy_audit.finding import Finding
from protocol.document import finite
from protocol.durable_files import make_folder, write
from protocol.errors import Code, WardroundError, unwritable
from protocol.privacy.epsilon_text import rounded_up
from protocol.release import RELEASE
from protocol.study.study import Study

if TYPE_CHECKING:
    from rich.table import Table

CATCHES = (
    ("too little noise (halved, or divided by the root of the batch)", "many runs, saturating"),
    ("a layer, or a patient, that escapes clipping", "many runs, saturating"),
    ("samples of a fixed size (shuffling) instead of Poisson samples", "many runs, opposed"),
    ("a denominator taken from the cohort", "many runs, saturating and opposed"),
    ("a gradient or a score that depends on who else is in the batch", "many runs, cancelling"),
)
"""Fault, and the audit that sees it."""


@dataclass(frozen=True)
class Membership:
    """What a membership attack on the released model achieves (Yeom et al. 2018): it calls those
    members on whose records the model's loss is small.

    auc: .5 is a guess. at_one_percent: members found where 1% of others are called members too.
    limit: what the stated epsilon lets any attack find at that rate. members, others: patients.
    """

    auc: float
    at_one_percent: float
    limit: float
    members: int
    others: int


@dataclass(frozen=True)
class AuditReport:
    """Everything that was found about one study's claim."""

    study: Study
    findings: tuple[Finding, ...]
    membership: Membership | None = None

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Infinite figures are the text "inf"."""
        return {
            "study": self.study.digest,
            "task": self.study.task.name,
            "source": self.study.task.source,
            "release": RELEASE,
            "mode": self.study.privacy.mode,
            "epsilon": self.study.privacy.epsilon,
            "delta": self.study.privacy.delta,
            "confidence": CONFIDENCE,
            "holds": self.holds,
            "findings": [
                {name: "inf" if value == math.inf else value for name, value in asdict(one).items()}
                | {"holds": one.holds}
                for one in self.findings
            ],
            "membership": None if self.membership is None else finite(asdict(self.membership)),
        }

    def require(self) -> None:
        """Raises WardroundError(CLAIM) where a lower bound is above what is claimed."""
        for one in self.findings:
            if not one.holds:
                raise WardroundError(
                    Code.CLAIM,
                    f"The claim is broken: accounting says epsilon {rounded_up(one.epsilon)} for "
                    f"{one.part}, and the audit ({one.audit}, {one.weights} weights) shows that "
                    f"it is at least {one.bound:.3g}, with confidence {one.confidence:.2%}.",
                    remedy="Use no result of this study as private. Report it as SECURITY.md says, "
                    "with summary.json and the releases of wardround and torch.",
                )


def save(report: AuditReport, folder: Path) -> dict[str, bytes]:
    """Writes the three files, and returns what is in them by name.

    Raises WardroundError(USAGE) where `folder` cannot be written."""
    text = json.dumps(report.as_json(), indent=2, allow_nan=False) + "\n"
    files = {
        "summary.json": text.encode(),
        "audit.png": _picture(report.findings),
        "audit.md": _page(report).encode(),
    }
    try:
        make_folder(folder)
        for name, content in files.items():
            write(folder / name, content)
    except OSError as error:
        raise unwritable(folder, error) from None
    return files


def table(report: AuditReport) -> Table:
    """Findings for a terminal."""
    from rich.table import Table

    shown = Table("audit", "of", "weights", box=None, pad_edge=False)
    for heading in ("runs", "epsilon", "at least", "estimate"):
        shown.add_column(heading, justify="right")
    for row in _rows(report.findings):
        shown.add_row(*row)
    return shown


def membership_in_words(found: Membership) -> str:
    return (
        f"A membership attack on the final model has an AUC of {found.auc:.3f} (a guess has .5). "
        f"It finds {found.at_one_percent:.1%} of {found.members} members where it calls 1% of "
        f"{found.others} others members; epsilon lets no attack find more than {found.limit:.1%}. "
        "It is shown for the reader, and proves nothing: other attacks may find more."
    )


def _rows(findings: Sequence[Finding]) -> list[list[str]]:
    return [
        [
            one.audit,
            one.part,
            one.weights,
            str(one.runs),
            rounded_up(one.epsilon),
            f"{one.bound:.3f}" + ("" if one.holds else " BROKEN"),
            f"{one.estimate:.3f}",
        ]
        for one in findings
    ]


def _page(report: AuditReport) -> str:
    study = report.study
    verdict = "No audit contradicts the claim." if report.holds else "**The claim is broken.**"
    lines = [
        f"# Privacy audit of study {study.digest[:12]}",
        f"Task {study.task.name}, mode {study.privacy.mode}, epsilon {study.privacy.epsilon:g} "
        f"at delta {study.privacy.delta:g}. {verdict}",
        "",
        "| audit | of | weights | runs | epsilon | at least | estimate |",
        "|---|---|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in _rows(report.findings)),
        "",
        f"*epsilon*: by accounting, for all attempts of that part. *at least*: what it is not "
        f"below, with confidence {CONFIDENCE:.2%} for each row. *estimate*: the same without "
        "confidence. An audit that finds nothing proves nothing: it tried these attacks only.",
        "",
        "![epsilon as stated, lower bounds and estimates](audit.png)",
        "",
        *([membership_in_words(report.membership), ""] if report.membership else []),
        "## Which audit sees which fault",
        "| fault | seen by |",
        "|---|---|",
        *(f"| {fault} | {seen} |" for fault, seen in CATCHES),
        "",
        "One run covers all steps of the study together, and its bound is loose: of these faults "
        "it has shown none by its bound alone, too little noise by its estimate.",
        "",
    ]
    return "\n".join(lines)


def _picture(findings: Sequence[Finding]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.4 * len(findings)), layout="constrained")
    axes = figure.add_subplot()
    finite_values = [v for one in findings for v in (one.epsilon, one.bound) if v < math.inf]
    most = 2 * max(finite_values, default=1.0)
    places = range(len(findings))
    for values, marker, label in (
        ([one.epsilon for one in findings], "|", "epsilon by accounting"),
        ([one.bound for one in findings], ">", f"at least ({CONFIDENCE:.2%})"),
        ([one.estimate for one in findings], "o", "estimate"),
    ):
        size = 300 if marker == "|" else 40
        axes.scatter([min(v, most) for v in values], places, marker=marker, s=size, label=label)
    names = [f"{one.audit}: {one.part}, {one.weights}" for one in findings]
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("epsilon")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()
