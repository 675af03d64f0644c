"""Which sites an attempt asks: those that accepted, are online, are within their hours and are not
left out; in the search for a liar, some of them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from protocol.errors import Code, WardroundError
from protocol.study.vector_layout import Sections
from server.model.suspects import Suspects
from server.rounds.proposal import Proposal, require_enough

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
_HOURS_POLL = 30.0
"""Seconds between two requests to sites outside their working hours."""


class Participants:
    """The sites that the attempts of one study ask. Nothing here costs privacy."""

    def __init__(self, proposal: Proposal) -> None:
        self._proposal = proposal
        self._sites: frozenset[str] = frozenset()
        self.answered = 0
        """The highest attempt that one of them says it has answered."""
        self._resting: frozenset[str] = frozenset()
        self._next_poll = 0.0

    def gather(self) -> None:
        """Raises what `Proposal.gather` raises."""
        accepted = self._proposal.gather()
        self._sites, self.answered = frozenset(accepted), max(accepted.values(), default=0)

    def note(self, refusals: Mapping[str, Code]) -> None:
        """Excludes sites that refused for good, and defers those outside their working hours."""
        self._sites -= {site for site, code in refusals.items() if code in _FOR_GOOD}
        self._resting |= {s for s, code in refusals.items() if code is Code.OUTSIDE_HOURS}

    def require_enough(self, refusals: Mapping[str, Code]) -> None:
        """Raises WardroundError(TOO_FEW_SITES) where those left cannot open the study's sums."""
        gone = {site: code for site, code in refusals.items() if code in _FOR_GOOD}
        require_enough(self._proposal.study, self._sites, gone)

    def leave_out(self, sites: frozenset[str]) -> None:
        """Asks these sites no more. Raises WardroundError(TOO_FEW_SITES) as `require_enough`."""
        self._sites -= sites
        gone = dict.fromkeys(sites, Code.AGGREGATION)
        require_enough(self._proposal.study, self._sites, gone)

    def among(self, suspects: Suspects, sections: Sections) -> frozenset[str]:
        """The sites to ask now where one of them may be lying, once any may be asked.

        Raises WardroundError when patience is over: TOO_FEW_SITES, or AGGREGATION naming suspects.
        """
        needed, here = self._needed(sections), self.online(sections)
        proposal, listener = self._proposal, self._proposal.listener
        deadline = time.monotonic() + proposal.patience.join
        shown: tuple[str, ...] = ()
        while not (asked := suspects.ask(here, needed)):
            named = tuple(sorted(suspects.common or proposal.study.sites))
            if shown != named:
                listener.waiting("suspects", named)
                shown = named
            if time.monotonic() > deadline:
                raise WardroundError(
                    Code.AGGREGATION,
                    "Sums are impossible, and it cannot be found out by whom: at least one of "
                    f"{', '.join(named)} sends what no honest site sends.",
                    remedy="Ask these sites to compare their releases and their patients with what "
                    "is declared; submit the study again without the one at fault.",
                )
            proposal.check_cancelled()
            time.sleep(proposal.patience.poll)
            here = self.online(sections)
        if shown:
            listener.waiting("suspects", ())
        return asked

    def _needed(self, sections: Sections) -> int:
        study = self._proposal.study
        return len(study.roster) if sections.exact else study.aggregation.least_sites

    def online(self, sections: Sections) -> frozenset[str]:
        """The sites that could be asked now, once enough of them are there.

        Raises WardroundError(TOO_FEW_SITES) when patience is over.
        """
        proposal = self._proposal
        listener, patience, needed = proposal.listener, proposal.patience, self._needed(sections)
        deadline, reported = time.monotonic() + patience.join, False
        while len(here := self._askable()) < needed:
            proposal.check_cancelled()
            if time.monotonic() > deadline:
                raise WardroundError(
                    Code.TOO_FEW_SITES,
                    f"{len(here)} sites are there, {needed} are needed.",
                    remedy="Start the missing sites' daemons and resume the study.",
                )
            resting = self._sites & self._resting
            missing = tuple(sorted(resting or self._sites - here))
            listener.waiting("hours" if resting else "offline", missing)
            reported = True
            time.sleep(patience.poll)
        if reported:
            listener.waiting("offline", ())
        return here

    def _askable(self) -> frozenset[str]:
        fleet = self._proposal.fleet
        if self._resting and time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + _HOURS_POLL
            standings = self._proposal.ask(self._resting & fleet.online())
            self._resting -= {
                s for s, answer in standings.items() if answer.standing.state == "accepted"
            }
        return (fleet.online() & self._sites) - self._resting
