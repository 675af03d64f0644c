"""Gates: what a study's own model must come to before a reviewer may approve it.

They are stated in the study, before anybody has seen a figure, and are judged at its end
(`server.report.gates`). A gate on a metric looks at the end of its 95% interval that speaks against
the model, so that chance does not open it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from protocol.document import Document, added_field
from protocol.outcomes.kinds import OutcomeKind

MetricName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Gates(Document):
    """`metrics`: metric -> what it must at least be, or at most where less is better. `epsilon`:
    the most that the whole study may have spent of a patient. `card`: the model card must answer
    what it is for, on whom it learned, how well it does and who launched it. `gaps`: metric by
    which models are compared -> how far the whole interval of each subgroup's difference may lie
    from 0. `audit`: whoever approves shows an audit of this study's code that does not contradict
    its epsilon (`protocol.models.audit_evidence`)."""

    metrics: dict[MetricName, float] = Field(default={}, max_length=20)
    epsilon: Annotated[float, Field(gt=0, le=1e4)] | None = None
    card: bool = False
    gaps: dict[MetricName, Annotated[float, Field(gt=0)]] = added_field({}, max_length=2)
    audit: bool = added_field(False)

    def check(
        self, outcome: OutcomeKind, *, evaluates: bool, subgroups: bool, private: bool
    ) -> None:
        """Raises ValueError for a gate that no outcome of the study could pass or fail.

        evaluates: whether the study does; subgroups: whether by any; private: whether its training
        claims an epsilon."""
        if not any((self.metrics, self.epsilon is not None, self.card, self.gaps, self.audit)):
            raise ValueError("gates state at least one; leave them out where there is none")
        if self.gaps and not subgroups:
            raise ValueError("gates look at gaps, and the study names no evaluation.subgroups")
        if unknown := sorted(set(self.gaps) - set(outcome.compared)):
            raise ValueError(
                f"gates look at gaps of {unknown[0]}, and subgroups are compared by "
                f"{sorted(outcome.compared)}"
            )
        if self.audit and not private:
            raise ValueError("gates ask for an audit, and training claims no epsilon to audit")
        if self.metrics and not evaluates:
            raise ValueError("gates look at metrics, and the study does not evaluate")
        for name in self.metrics:
            known = {key for key, metric in outcome.metrics.items() if metric.better}
            if name not in known:
                raise ValueError(f"gates look at {name}, and this outcome has {sorted(known)}")
