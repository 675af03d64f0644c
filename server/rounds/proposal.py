"""Proposing a study to its sites, and whether those that accept it are enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from protocol.errors import Code, WardroundError
from protocol.privacy.word_size import check_headroom
from protocol.release import Sender
from protocol.secagg.context import roster_digest
from protocol.study.study import Study
from protocol.wire import messages
from server.rounds.answers import SiteStanding, releases_in_words, standing_of
from server.rounds.attempt import Traffic
from server.rounds.confirmations import Confirmations
from server.rounds.listener import Listener
from server.rounds.transport import Fleet

ANSWER = 60.0
"""Seconds for an answer to a proposal, unless said otherwise."""


@dataclass(frozen=True)
class Patience:
    """Seconds: for one answer, for sites to come online or approve, between two polls; for a site
    that was lost while the others wait for its share, to come back."""

    answer: float = 3600.0
    join: float = 24 * 3600.0
    poll: float = 0.5
    comeback: float = 60.0
    failures: int = 5
    """Attempts in a row that may be lost before the study fails."""


@dataclass(frozen=True)
class Proposal:
    """Proposes a study to its sites and collects their answers."""

    study: Study
    fleet: Fleet
    listener: Listener
    traffic: Traffic
    patience: Patience
    check_cancelled: Callable[[], None]
    identities: Mapping[str, str]
    """Site -> public identity key in hex, as the coordinator has it."""
    revoked: Callable[[], frozenset[str]] = frozenset
    """The study's sites whose keys are revoked by now."""
    confirmations: Confirmations = field(default_factory=Confirmations)

    def check(self) -> None:
        """Before anybody is asked. Raises WardroundError(CONFIGURATION) where sums would wrap."""
        check_headroom(self.study)

    def ask(
        self, sites: Collection[str], *, timeout: float = ANSWER, dry: bool = False
    ) -> dict[str, SiteStanding]:
        """Where the study stands at these sites now, of those that answer within `timeout` seconds.
        Costs no privacy.

        dry: where it would stand; no site records the study. Raises WardroundError(IDENTITY) for a
        site without a key.
        """
        document = self.study.document.decode()
        propose = messages.Propose(document=document, roster=self._roster(), dry=dry)
        frame = messages.frame(propose)
        self.traffic.sent += frame.size * len(sites)
        answers = self.fleet.ask(dict.fromkeys(sorted(sites), frame), timeout)
        standings = {}
        for site, received in answers:
            if received is not None:
                self.traffic.received += received.size
                standings[site] = standing = standing_of(received)
                if standing is not None:
                    self.confirmations.note(site, standing.standing.unconfirmed)
        return {site: standing for site, standing in standings.items() if standing is not None}

    def without_revoked(self) -> frozenset[str]:
        """The sites that take no part any more since their keys are revoked.

        Raises WardroundError(IDENTITY) where the study takes all of its sites.
        """
        gone = self.revoked()
        if gone and self.study.whole_roster:
            raise WardroundError(
                Code.IDENTITY,
                f"The key of {', '.join(sorted(gone))} is revoked, and an exact sum takes all "
                "sites of the study.",
                remedy="Submit a study without it. A hospital returns under a new key.",
            )
        return gone

    def _roster(self) -> str:
        if missing := sorted(set(self.study.sites) - set(self.identities)):
            raise WardroundError(
                Code.IDENTITY,
                f"The coordinator has no identity key of {', '.join(missing)}.",
                remedy="Enrol them, or submit a study without them.",
            )
        return roster_digest((site, self.identities[site]) for site in self.study.sites)


def rules_in_words(rules: Mapping[str, Sequence[str]]) -> str:
    """Site -> rules that forbid a study there: "policy.modes (3 sites), policy.delta (1 site)",
    the commonest first; never which site."""
    counted = Counter(rule for named in rules.values() for rule in set(named))
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"policy.{rule} ({n} site{'s' * (n > 1)})" for rule, n in ordered)


def require_enough(
    study: Study,
    left: frozenset[str],
    refused: Mapping[str, Code],
    absent: int = 0,
    rules: Mapping[str, Sequence[str]] = MappingProxyType({}),
    others: Sequence[Sender] = (),
) -> None:
    """Raises WardroundError(TOO_FEW_SITES) where the sites left cannot open the study's sums.

    Says by which rule how many refused, never which hospital or on what data. others: the releases
    of sites with which this one cannot work.
    """
    needed = len(study.roster) if study.whole_roster else study.aggregation.least_sites
    if len(left) >= needed:
        return
    codes = sorted(refused.values())
    reasons = [f"{codes.count(code)} refused ({code})" for code in dict.fromkeys(codes)]
    if absent:
        reasons.append(f"{absent} did not answer or approve in time")
    why = "Refused by" if left else "No site's policy accepts the study"
    names = rules_in_words(rules)
    raise WardroundError(
        Code.TOO_FEW_SITES,
        f"{len(left)} of {len(study.roster)} sites take part, {needed} are needed: "
        f"{', '.join(reasons) or 'the others left'}." + (f" {why}: {names}." if names else ""),
        remedy=releases_in_words(others)
        or "At a site that refused, `wardround-site studies` says which rule it was, and "
        "`wardround-site check` and the daemon's log what is wrong with its data or software.",
    )
