"""Gates: what a study's own model must come to before a reviewer may approve it.

They are stated in the study, before anybody has seen a figure, and are judged at its end
(`server.report.gates`). A gate on a metric looks at the end of its 95% interval that speaks against
the model, so that chance does not open it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from protocol.document import Document
from protocol.outcomes.kinds import OutcomeKind

MetricName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Gates(Document):
    """`metrics`: metric -> what it must at least be, or at most where less is better. `epsilon`:
    the most that the whole study may have spent of a patient. `card`: the model card must answer
    what it is for, on whom it learned, how well it does and who launched it."""

    metrics: dict[MetricName, float] = Field(default={}, max_length=20)
    epsilon: Annotated[float, Field(gt=0, le=1e4)] | None = None
    card: bool = False

    def check(self, outcome: OutcomeKind, *, evaluates: bool) -> None:
        """Raises ValueError for a gate that no outcome of the study could pass or fail."""
        if not self.metrics and self.epsilon is None and not self.card:
            raise ValueError("gates state at least one; leave them out where there is none")
        if self.metrics and not evaluates:
            raise ValueError("gates look at metrics, and the study does not evaluate")
        for name in self.metrics:
            known = {key for key, metric in outcome.metrics.items() if metric.better}
            if name not in known:
                raise ValueError(f"gates look at {name}, and this outcome has {sorted(known)}")
