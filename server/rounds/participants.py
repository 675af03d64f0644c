"""Which sites an attempt asks: those that accepted, are online and within their hours, not left out
and not too slow (`server.rounds.pace`); in the search for a liar, some of them.

A study that lets sites be absent (`Study.whole_roster` is false) starts with enough of them once
its grace is over, and every attempt takes in those that have accepted since. This changes no
claim: each sum has the noise that its own participants make up for (`protocol.secagg.party`), and
each site bounds among how many sets of participants one round may sum (`Ledger.take_part`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import assert_never

from protocol.errors import Code, WardroundError
from protocol.release import Sender
from protocol.study.vector_layout import Sections
from server.model.suspects import Suspects
from server.outcome import Approvals
from server.rounds.answers import SiteStanding
from server.rounds.listener import Reason
from server.rounds.pace import Pace
from server.rounds.proposal import ANSWER, Proposal, require_enough

_FOR_GOOD = frozenset(
    {
        Code.REFUSED_BUDGET,
        Code.REFUSED_POLICY,
        Code.REFUSED_STUDY,
        Code.REVOKED,
        Code.TOO_FEW_PATIENTS,
        Code.NO_DATA,
        Code.MALFORMED_DATA,
    }
)
"""A site that refuses with one of these takes no further part in the study."""
_DEFERRING: Mapping[Code | None, Reason] = {
    Code.OUTSIDE_HOURS: "hours",
    **dict.fromkeys((Code.STATE, Code.LEDGER, Code.AUDIT, Code.CLOCK), "trouble"),
}
"""A site that refuses with one of these is waited for, as one that is offline. trouble: with its
own machine, such as a full disk or a wrong clock."""
_ASK_AGAIN = 30.0
"""Seconds, once a study has started, between two proposals to a site that stays undecided, or has
not confirmed another's key."""
_TROUBLED = 10.0
"""The same for a site in trouble."""
_LATE_ANSWER = 5.0
"""Seconds for which a study that has started waits for such a site's answer."""


class Participants:
    """The sites that the attempts of one study ask. Nothing here costs privacy."""

    def __init__(
        self,
        proposal: Proposal,
        accepted: Collection[str] = (),
        remember: Callable[[Collection[str]], None] = lambda accepted: None,
    ) -> None:
        """accepted: sites that had accepted before the coordinator was restarted. remember: is
        told, whenever one more accepts, of all that have."""
        self._proposal, self._study, self._remember = proposal, proposal.study, remember
        self._accepted = frozenset[str]()
        self.answered = 0
        """The highest attempt that one of those who accepted says it has answered."""
        self._accepted_by: dict[str, str] = {}
        self._undecided: dict[str, Reason] = dict.fromkeys(self._study.sites, "offline")
        self._expected = frozenset(accepted)
        self._refused: dict[str, Code] = {}
        self._rules: dict[str, tuple[str, ...]] = {}
        self._others: list[Sender] = []
        self._asked: dict[str, float] = {}
        self._strangers: tuple[str, ...] = ()
        self.pace = Pace(proposal.study)

    @property
    def absent(self) -> bool:
        """Whether a site has not said yet whether it takes part."""
        return bool(self._undecided)

    @property
    def approvals(self) -> Approvals:
        """How those that have accepted say they did."""
        said = [self._accepted_by.get(site, "") for site in self._accepted]
        return Approvals(by_hand=said.count("hand"), by_rule=said.count("rule"))

    def gather(self) -> None:
        """Returns once the study may start: all sites have answered; or its grace is over, or all
        that had accepted before a restart are back, and there are enough; or patience is over.

        Raises WardroundError: TOO_FEW_SITES, saying how many refused by which rule; IDENTITY for a
        site without a key, or one whose key is revoked where all are needed; what `Proposal.check`
        raises.
        """
        self._proposal.check()
        listener, patience, started = self._proposal.listener, self._proposal.patience, _now()
        while True:
            self._proposal.check_cancelled()
            self._drop_revoked()
            here = self._proposal.fleet.online() & self._undecided.keys()
            self._propose(here, self._answer_time(_now() - started))
            self.require_enough()
            if self._may_start(_now() - started):
                break
            self._show()
            time.sleep(patience.poll)
        listener.waiting("offline", ())
        self._require_enough(self._accepted, len(self._undecided))

    def _may_start(self, waited: float) -> bool:
        grace = self._grace
        if not self._undecided or waited >= self._proposal.patience.join:
            return True
        if grace is None or len(self._accepted) < self._study.aggregation.least_sites:
            return False
        back = self._expected and not self._expected & self._undecided.keys()
        return bool(back) or waited >= grace

    @property
    def _grace(self) -> float | None:
        """Seconds; None where all sites are waited for."""
        return None if self._study.whole_roster else self._study.aggregation.grace

    def _answer_time(self, waited: float) -> float:
        return ANSWER if self._grace is None else min(ANSWER, max(1.0, self._grace - waited))

    def _propose(self, asked: Collection[str], timeout: float) -> None:
        """Asks these sites, and takes in what they answer."""
        self._asked |= dict.fromkeys(asked, _now())
        answers = self._proposal.ask(asked, timeout=timeout) if asked else {}
        for site, answered in answers.items():
            self._take(site, answered)
        if self._accepted & answers.keys():
            self._remember(self._accepted)

    def _take(self, site: str, answered: SiteStanding) -> None:
        standing = answered.standing
        match standing.state:
            case "accepted":
                self._accepted |= {site}
                self._accepted_by[site] = standing.accepted_by
                self._undecided.pop(site, None)
                self.answered = max(self.answered, standing.answered)
            case "waiting" | "refused" | "closed" if standing.code in _DEFERRING:
                self._defer(site, _DEFERRING[standing.code])
            case "waiting":
                self._defer(site, "approval")
            case "refused" | "closed":
                self._refuse(site, standing.code or Code.REFUSED_STUDY)
                self._rules[site] = standing.rules
                if standing.code is Code.RELEASE:
                    self._others.append(answered.sender)
            case never:
                assert_never(never)

    def _defer(self, site: str, why: Reason) -> None:
        self._accepted -= {site}
        self._undecided[site] = why

    def _refuse(self, site: str, code: Code) -> None:
        self._refused[site] = code
        self._accepted -= {site}
        self._undecided.pop(site, None)

    def _show(self) -> None:
        """Tells for whom the study waits, and why."""
        here = self._proposal.fleet.online()
        away = (self._accepted | self._undecided.keys()) - here
        whys: dict[Reason, list[str]] = {"offline": sorted(away)}
        for site, why in self._undecided.items():
            if site in here:
                whys.setdefault(why, []).append(site)
        for why, sites in whys.items():
            if sites:
                self._proposal.listener.waiting(why, tuple(sorted(sites)))

    def note(self, refusals: Mapping[str, Code]) -> None:
        """Excludes sites that refused for good, and defers those outside their working hours or in
        trouble."""
        for site in refusals.keys() & self._accepted:
            if (code := refusals[site]) in _FOR_GOOD:
                self._refuse(site, code)
            elif code in _DEFERRING:
                self._defer(site, _DEFERRING[code])
                self._asked[site] = _now()

    def require_enough(self) -> None:
        """Raises WardroundError(TOO_FEW_SITES) where those left cannot open the study's sums."""
        self._require_enough(self._accepted | self._undecided.keys())

    def _require_enough(self, left: frozenset[str], absent: int = 0) -> None:
        require_enough(self._study, left, self._refused, absent, self._rules, self._others)

    def leave_out(self, sites: frozenset[str]) -> None:
        """Asks these sites no more. Raises WardroundError(TOO_FEW_SITES) as `require_enough`."""
        for site in sites:
            self._refuse(site, Code.AGGREGATION)
        self.require_enough()

    def among(self, suspects: Suspects, sections: Sections, round_: int) -> frozenset[str]:
        """The sites to ask now where one of them may be lying, once any may be asked.

        Raises WardroundError when patience is over: TOO_FEW_SITES, or AGGREGATION naming suspects.
        """
        needed, here = sections.least_sites, self._in_time(sections, round_)
        proposal, listener = self._proposal, self._proposal.listener
        deadline = _now() + proposal.patience.join
        shown: tuple[str, ...] = ()
        while not (asked := suspects.ask(here, needed)):
            named = tuple(sorted(suspects.common or self._study.sites))
            if shown != named:
                listener.waiting("suspects", named)
                shown = named
            if _now() > deadline:
                raise WardroundError(
                    Code.AGGREGATION,
                    "Sums are impossible, and it cannot be found out by whom: at least one of "
                    f"{', '.join(named)} sends what no honest site sends.",
                    remedy="Ask these sites to compare their releases and their patients with what "
                    "is declared; submit the study again without the one at fault.",
                )
            proposal.check_cancelled()
            time.sleep(proposal.patience.poll)
            here = self._in_time(sections, round_)
        if shown:
            listener.waiting("suspects", ())
        return asked

    def _in_time(self, sections: Sections, round_: int) -> frozenset[str]:
        """As `online`, without slow sites where there are enough others."""
        here = self.online(sections)
        quick = here - self.pace.resting(round_)
        return quick if len(quick) >= sections.least_sites else here

    def online(self, sections: Sections) -> frozenset[str]:
        """The sites that could be asked now, once enough of them are there.

        Raises WardroundError(TOO_FEW_SITES) when patience is over.
        """
        proposal, needed = self._proposal, sections.least_sites
        deadline, reported = _now() + proposal.patience.join, False
        while len(here := self._askable()) < needed:
            proposal.check_cancelled()
            if _now() > deadline:
                raise self._too_few(len(here), needed)
            self._show()
            reported = True
            time.sleep(proposal.patience.poll)
        if reported:
            proposal.listener.waiting("offline", ())
        return here

    def _askable(self) -> frozenset[str]:
        """Takes in who has come since, at once when it comes, otherwise now and then; those that
        may add up together, without whom a key is revoked of."""
        self._drop_revoked()
        fleet, confirmations = self._proposal.fleet, self._proposal.confirmations
        here, now = fleet.online(), _now()
        self._asked = {site: asked for site, asked in self._asked.items() if site in here}
        due = {s for s in here if s not in self._asked or now - self._asked[s] >= self._pause(s)}
        self._propose(due & (self._undecided.keys() | confirmations.lacking), _LATE_ANSWER)
        words = confirmations.in_words(frozenset(self._study.sites))
        if words != self._strangers:
            self._strangers = words
            self._proposal.listener.waiting("unconfirmed", words)
        return confirmations.together(fleet.online() & self._accepted)

    def _pause(self, site: str) -> float:
        return _TROUBLED if self._undecided.get(site) == "trouble" else _ASK_AGAIN

    def _drop_revoked(self) -> None:
        """Raises what `Proposal.without_revoked` raises."""
        for site in self._proposal.without_revoked():
            self._refuse(site, Code.REVOKED)

    def _too_few(self, here: int, needed: int) -> WardroundError:
        message = f"{here} sites are there, {needed} are needed."
        if self._strangers:
            return WardroundError(
                Code.TOO_FEW_SITES,
                f"{message} {'; '.join(self._strangers)}.",
                remedy="There, compare the fingerprint by telephone and run `wardround-site roster "
                "confirm`; then resume the study.",
            )
        return WardroundError(
            Code.TOO_FEW_SITES,
            message,
            remedy="Start the missing sites' daemons and resume the study.",
        )


def _now() -> float:
    return time.monotonic()
