"""Decisions about bundles: by the reviewer rita, in entries of the coordinator that signed them."""

from __future__ import annotations

from dataclasses import replace

from client.config import known_reviewers
from client.config.site_config import SiteConfig
from client.config.site_decisions import SiteDecisions
from protocol.identity import Identity
from protocol.models.bundle import Bundle
from protocol.models.decision import (
    Decision,
    DecisionHistory,
    DecisionNews,
    SignedDecision,
    Verdict,
)
from tests.protocol.models.bundles import KEY

RITA = Identity.generate()


def history(
    of: Bundle, *verdicts: Verdict, key: Identity = RITA, by: Identity = KEY
) -> DecisionHistory:
    made = DecisionHistory()
    for number, verdict in enumerate(verdicts):
        record = of.signed.record
        decision = Decision(
            model=record.model,
            version=record.version,
            study=record.study,
            record=of.digest,
            verdict=verdict,
            reason=f"reason {number}",
            reviewer="rita",
            time="2026-11-27T10:00:00+00:00",
        )
        made = made.appended(SignedDecision.make(decision, key), by)
    return made


def approved(of: Bundle, *verdicts: Verdict, key: Identity = RITA) -> Bundle:
    """As exported after these decisions, of which the last one is an approval."""
    return replace(of, approval=history(of, *(verdicts or ("approved",)), key=key).entries[-1])


def pin(config: SiteConfig, key: Identity = RITA) -> None:
    """As `join` does with a bundle that names rita."""
    path = known_reviewers.reviewers_file(config)
    path.write_bytes(known_reviewers.text({"rita": key.public_key.hex()}))


def tell(config: SiteConfig, theirs: DecisionHistory) -> None:
    """As the coordinator does while the daemon is connected."""
    decisions = SiteDecisions(config)
    decisions.receive(DecisionNews.since(theirs, decisions.now().number))
