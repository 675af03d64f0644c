"""What a coordinator's earlier studies of the same data add to a study's privacy cost, in words.

A coordinator knows its own studies alone; what others learned of the same patients is in each
hospital's ledger. Epsilons and deltas of all that is released about a patient add up (Dwork and
Roth 2014, theorem 3.16), so that their sum is a bound, if not the least one.
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.privacy.epsilon_text import rounded_up
from protocol.study.study import Study


def of_same_patients(study: Study, others: Collection[Study]) -> list[Study]:
    """Those of the same task with a hospital in common, whose patients may be the same."""
    return [
        other
        for other in others
        if other.digest != study.digest
        and other.task.name == study.task.name
        and set(other.sites) & set(study.sites)
    ]


def earlier_in_words(study: Study, others: Collection[Study]) -> str:
    """others: the coordinator's studies from before this one, however they ended: each counts with
    its whole plan."""
    same = of_same_patients(study, others)
    if not same:
        return "this coordinator has run no other study of this task with these hospitals before"
    bounded = [other for other in same if other.privacy.epsilon is not None]
    many = "1 earlier study" if len(same) == 1 else f"{len(same)} earlier studies"
    said = f"{many} of this coordinator asked some of the same hospitals"
    if bounded and study.privacy.epsilon is not None:
        every = [*bounded, study]
        epsilon = sum(one.privacy.epsilon or 0.0 for one in every)
        delta = sum(one.privacy.delta for one in every)
        said += (
            f"; with this one their plans add up to epsilon {rounded_up(epsilon)} at delta "
            f"{delta:.3g} for a patient who is in all of them"
        )
    if unbounded := len(same) - len(bounded):
        said += f"; without an epsilon, so that no bound covers it: {unbounded} of them"
    return said
