"""An audit's report as evidence: what a reviewer who approves a model shows of its study's claim.

It is what `wardround audit --study` writes as summary.json. The reviewer signs its digest with the
decision; the coordinator compares it with the study and the code, and keeps it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, ValidationError

from protocol.document import Document, read_object
from protocol.errors import Code, WardroundError
from protocol.models.audit_effort import CANARIES, RUNS
from protocol.study.study import Digest, Study

LONGEST = 64_000
"""Bytes of a report."""
Number = float | Literal["inf"]


class AuditFinding(Document):
    """One audit of one part of the study, as `client.privacy_audit.finding.Finding` has it."""

    audit: Literal["many runs", "one run"]
    part: Literal["training", "evaluation"]
    weights: str = Field(max_length=100)
    epsilon: Number
    bound: Number
    estimate: Number
    runs: int = Field(ge=1)
    confidence: float = Field(gt=0.99, lt=1)
    holds: bool

    @property
    def contradicts(self) -> bool:
        """Whether epsilon is shown to be larger than claimed."""
        return not float(self.bound) <= float(self.epsilon)

    @property
    def suffices(self) -> bool:
        """Whether it is of as many releases, or canaries, as an approval takes."""
        match self.audit:
            case "many runs":
                return self.runs >= RUNS
            case "one run":
                return self.runs >= CANARIES


class AuditEvidence(Document):
    """study: the digest of the study that was audited, `source` that of its task's code; release:
    of the wardround that audited."""

    study: Digest
    task: str = Field(max_length=64)
    source: Digest
    release: str = Field(max_length=100)
    mode: str = Field(max_length=64)
    epsilon: float
    delta: float
    confidence: float
    holds: bool
    findings: tuple[AuditFinding, ...] = Field(max_length=100, strict=False)
    membership: dict[str, Any] | None

    @staticmethod
    def parse(text: str) -> AuditEvidence:
        """Raises WardroundError(MESSAGE) for what is no report of this release."""
        plain = read_object(text.encode(), "The audit's report")
        try:
            return AuditEvidence.model_validate(plain)
        except ValidationError:
            raise WardroundError(
                Code.MESSAGE,
                "The audit's report is malformed, or of another release.",
                remedy="Give the summary.json that `wardround audit --study` of this release "
                "writes.",
            ) from None

    def objection(self, study: Study, release: str) -> str:
        """Why it says nothing for this study's claim, in words; "" where it does. release: of the
        code that the claim is about."""
        if self.study != study.digest:
            return "the report is of another study"
        if (self.source, self.release) != (study.task.source, release):
            return f"other code was audited (wardround {self.release}, here {release})"
        wanted = {("many runs", "training"), ("one run", "training")}
        if study.evaluation.noised:
            wanted.add(("many runs", "evaluation"))
        if lacking := wanted - {(one.audit, one.part) for one in self.findings}:
            return f"not audited: {', '.join(sorted(' of '.join(one) for one in lacking))}"
        if not all(one.suffices for one in self.findings):
            return f"too few runs or canaries ({RUNS} and {CANARIES} at least)"
        if broken := [one for one in self.findings if one.contradicts]:
            worst = max(broken, key=lambda one: float(one.bound))
            return (
                f"the claim is broken: epsilon of {worst.part} is at least {float(worst.bound):.3g}"
            )
        return ""

    @property
    def in_words(self) -> str:
        """For a tag."""
        bounds = [float(one.bound) for one in self.findings if not math.isnan(float(one.bound))]
        return f"{len(self.findings)} attacks show an epsilon of at least {max(bounds):.3g}"
