"""Before round 1: propose the study, and wait until the sites have accepted it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

from protocol.errors import Code, WardroundError
from protocol.privacy.word_size import check_headroom
from protocol.release import Sender
from protocol.secagg.context import roster_digest
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.terminal.study_texts import check_texts
from protocol.wire import messages
from server.rounds.answers import SiteStanding, releases_in_words, standing_of
from server.rounds.attempt import Traffic
from server.rounds.listener import Listener
from server.rounds.transport import Fleet


@dataclass(frozen=True)
class Patience:
    """Seconds: for one answer, for sites to come online or approve, between two polls."""

    answer: float = 3600.0
    join: float = 24 * 3600.0
    poll: float = 0.5
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

    def gather(self) -> dict[str, int]:
        """The sites that accepted, once all have answered or patience is over -> the last attempt
        that each says it has answered.

        Raises WardroundError: TOO_FEW_SITES, saying how many refused by which rule; before anybody
        is asked, IDENTITY for a site without a key, CONFIGURATION where sums would wrap, and
        REFUSED_STUDY for texts that cannot be shown.
        """
        check_texts(self.study)
        check_headroom(self.study)
        undecided, accepted = set(self.study.sites), dict[str, int]()
        refused: dict[str, Code] = {}
        rules: dict[str, tuple[str, ...]] = {}
        others: list[Sender] = []
        deadline = time.monotonic() + self.patience.join
        while True:
            self.check_cancelled()
            here = self.fleet.online() & undecided
            resting = set()
            for site, answered in self.ask(here).items():
                standing = answered.standing
                match standing.state:
                    case "accepted":
                        accepted[site] = standing.answered
                    case "waiting" | "refused" | "closed" if standing.code is Code.OUTSIDE_HOURS:
                        resting.add(site)
                    case "waiting":
                        pass
                    case "refused" | "closed":
                        refused[site] = standing.code or Code.REFUSED_STUDY
                        rules[site] = standing.rules
                        if standing.code is Code.RELEASE:
                            others.append(answered.sender)
                    case never:
                        assert_never(never)
            undecided -= {*accepted, *refused}
            if undecided - here:
                self.listener.waiting("offline", tuple(sorted(undecided - here)))
            if resting:
                self.listener.waiting("hours", tuple(sorted(resting)))
            if undecided & here - resting:
                self.listener.waiting("approval", tuple(sorted(undecided & here - resting)))
            if not undecided or time.monotonic() >= deadline:
                break
            time.sleep(self.patience.poll)
        self.listener.waiting("offline", ())
        require_enough(self.study, frozenset(accepted), refused, len(undecided), rules, others)
        return accepted

    def ask(
        self, sites: frozenset[str] | set[str], *, dry: bool = False
    ) -> dict[str, SiteStanding]:
        """Where the study stands at these sites now, of those that answer. Costs no privacy.

        dry: where it would stand; no site records the study.
        """
        document = self.study.document.decode()
        propose = messages.Propose(document=document, roster=self._roster(), dry=dry)
        frame = messages.frame(propose)
        self.traffic.sent += frame.size * len(sites)
        answers = self.fleet.ask(dict.fromkeys(sorted(sites), frame), 60.0)
        standings = {}
        for site, received in answers:
            if received is not None:
                self.traffic.received += received.size
                standings[site] = standing_of(received)
        return {site: standing for site, standing in standings.items() if standing is not None}

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
    exact = Sections(study, train=True, evaluate=False).exact
    needed = len(study.roster) if exact else study.aggregation.least_sites
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
