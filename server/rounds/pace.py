"""Which sites are too slow to be waited for in each round, by a rule that the study states.

The time of a site in an attempt is that from the coordinator's questions to its answers, Ready and
share together: computing and both ways of the line. A site is slow in an attempt that opened if its
time is above SHORT and above `aggregation.slow` times the median of the others' times. The n-th
time in a row, it is then not asked in the next 2^(n - 1) rounds (REST at most), so that it costs
the others ever less and takes part again by itself once it has become quicker.

Sites are left out before they are asked, and never from an attempt that has begun: whoever is in it
is waited for, however long its answer takes. Studies that sum exactly leave nobody out.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from protocol.study.study import Study

SHORT = 10.0
"""Seconds; no site that takes less is slow."""
REST = 64
"""Rounds, at most, between two tries."""


class Pace:
    """The sites' times in one study, since the coordinator's start."""

    def __init__(self, study: Study) -> None:
        self._factor = None if study.whole_roster else study.aggregation.slow
        self._in_a_row: dict[str, int] = {}
        self._until: dict[str, int] = {}

    def note(self, round_: int, seconds: Mapping[str, float]) -> None:
        """After an attempt of that round has opened. seconds: participant -> its time."""
        for site, own in seconds.items():
            others = [time for other, time in seconds.items() if other != site]
            if self._factor is None or not others:
                return
            if own <= max(SHORT, self._factor * median(others)):
                self._in_a_row.pop(site, None)
                continue
            self._in_a_row[site] = self._in_a_row.get(site, 0) + 1
            self._until[site] = round_ + min(REST, 2 ** (self._in_a_row[site] - 1))

    def resting(self, round_: int) -> frozenset[str]:
        """The sites that are not asked in that round, if there are enough others."""
        return frozenset(site for site, until in self._until.items() if round_ <= until)
