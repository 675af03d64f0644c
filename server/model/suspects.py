"""The search for a site whose parts make sums impossible, by the attempts that they cost.

Masks hide who it was, so the coordinator asks subsets of the sites. It goes by lost attempts alone:
a sum that opened clears nobody, since a liar may lie now and then.

*Assumption: at most one site lies.* Then every lost attempt had it among its suspects, honest sums
being possible ones (`protocol.privacy.possible_sums`), and a site that is the only one common to
all of them is the liar, whatever it does: one liar cannot frame another site. Two can frame a
third. So one site of a study at most is left out, and losses after that are for people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

Sites = frozenset[str]
_PARTS = 3
"""A subset has a third of the suspects: few losses until one is left, few subsets until one."""


@dataclass(frozen=True)
class Suspects:
    """What lost attempts say. An attempt that was lost to the network is not told.

    losses, in_a_row: attempts lost in all, and since the last sum that opened. common: the sites
    that are suspects of all of them. opened: those of them in a sum that opened since `common` last
    shrank. searching: whether subsets are asked. left_out: the site that was found, or nobody.
    """

    losses: int = 0
    in_a_row: int = 0
    common: Sites = frozenset()
    opened: Sites = frozenset()
    searching: bool = False
    left_out: Sites = frozenset()

    def lose(self, suspects: Sites) -> Suspects:
        """After an attempt of whose sites at least one of `suspects` did not do its part."""
        common = self.common & suspects if self.losses else suspects
        if self.losses and len(common) == 1 and not self.left_out:
            return Suspects(left_out=common)
        in_a_row = self.in_a_row + 1
        return replace(
            self,
            losses=self.losses + 1,
            in_a_row=in_a_row,
            common=common,
            opened=self.opened if common == self.common else frozenset(),
            searching=self.searching or in_a_row > 1,
        )

    def open(self, participants: Sites) -> Suspects:
        """After an attempt that gave a sum."""
        if not self.searching:
            return replace(self, in_a_row=0, opened=frozenset())
        opened = self.opened | (self.common & participants)
        return replace(self, in_a_row=0, opened=opened, searching=opened < self.common)

    def ask(self, here: Sites, least: int) -> Sites:
        """The sites to ask next, `least` or more of those that are here; nobody where people have
        to look into it: no subset says more, or no single site explains the losses."""
        suspects = self.common & here
        if not self.searching or (self.common and not suspects):
            return here
        if self.left_out or not self.common:
            return frozenset()
        others = here - suspects
        size = max(least - len(others), math.ceil(len(self.common) / _PARTS))
        next_ = [*sorted(suspects - self.opened), *sorted(suspects & self.opened)]
        if size < len(self.common) and suspects > self.opened & suspects:
            return others | frozenset(next_[:size])
        return here if suspects < self.common else frozenset()

    def to_plain(self) -> dict[str, Any]:
        """For the checkpoint."""
        sets = {name: sorted(getattr(self, name)) for name in ("common", "opened", "left_out")}
        return self.__dict__ | sets

    @staticmethod
    def of_plain(plain: dict[str, Any]) -> Suspects:
        """As `to_plain` made it; of an older checkpoint, which has none, nobody is suspected."""
        sets = {name: frozenset(of) for name, of in plain.items() if isinstance(of, list)}
        return Suspects(**(plain | sets))
