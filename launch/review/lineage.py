"""Where a registered version comes from: study, code, configuration, signature, decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.federations.deployment import RemoteFederation
from launch.review.decide import Review
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.identity import fingerprint
from protocol.models.decision import OpenedEntry
from server.report.gates import TAG
from server.tracking.registered_model import VerifiedModel


@dataclass(frozen=True)
class Lineage:
    """What stands behind a version. study: as the coordinator has it, with its document and the
    configuration that it came from."""

    model: VerifiedModel
    study: Mapping[str, Any]
    decisions: tuple[OpenedEntry, ...]

    @property
    def gates(self) -> dict[str, str]:
        """The study's gates as MLflow shows them; the coordinator judges them by its own notes."""
        tags = self.model.tags.items()
        return {name.removeprefix(TAG): says for name, says in tags if name.startswith(TAG)}

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        record = self.model.record.record
        return {
            "model": record.model,
            "version": record.version,
            "digest": digest(self.model.record.text.encode()),
            "signer": self.model.record.signer_fingerprint,
            "weights": record.weights,
            "study": record.study,
            "launched_by": self.study["account"],
            "submitted": self.study["submitted"],
            "task": self.study["document"]["task"],
            "start": self.study["document"].get("start"),
            "configuration": self.study["configuration"],
            "gates": self.gates,
            "decisions": [
                one.decision.model_dump(mode="json")
                | {"number": one.entry.number, "key": one.entry.reviewer_key}
                for one in self.decisions
            ],
        }

    def lines(self) -> list[str]:
        """For people."""
        of = self.plain()
        task = of["task"]
        lines = [
            f"{of['model']} version {of['version']}, as the coordinator signed it",
            f"digest    {of['digest']}",
            f"signed    by the coordinator's key {of['signer']}",
            f"study     {of['study']}",
            f"launched  by {of['launched_by']} on {str(of['submitted'])[:10]}",
            f"code      task {task['name']} version {task['version']}, source {task['source']}",
            *_started(of["start"]),
            *(f"gate      {name}: {says}" for name, says in sorted(self.gates.items())),
        ]
        for one in self.decisions:
            said, key = one.decision, bytes.fromhex(one.entry.reviewer_key)
            lines.append(
                f"decision  {said.verdict} by {said.reviewer} ({fingerprint(key)}) on "
                f"{said.time[:10]}: {said.reason}"
            )
        if not self.decisions:
            lines.append("decision  none yet")
        return lines


def _started(start: Mapping[str, Any] | None) -> list[str]:
    """From which released model it was trained on."""
    if start is None:
        return []
    return [f"from      {start['model']}, which study {start['study']} released"]


def lineage(review: Review, model: str, version: str) -> Lineage:
    """Raises WardroundError: as `Review.verified` and `Review.history`, and USAGE where the
    coordinator has the version's study no longer."""
    found = review.verified(model, version)
    record = digest(found.record.text.encode())
    about = tuple(one for one in review.history().entries if one.decision.record == record)
    with RemoteFederation(review.credentials, address=review.coordinator) as remote:
        study = remote.study(found.record.record.study)
    if not {"account", "submitted", "document", "configuration"} <= study.keys():
        raise WardroundError(
            Code.MESSAGE,
            "What the coordinator says of the study lacks a part.",
            remedy="Does it run another version than this machine?",
        )
    return Lineage(found, study, about)
