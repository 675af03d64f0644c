"""Attacks on exact sums: what a coordinator could read off them if it chose the iterate.

With weights of its choosing one sum of X'WX gives a whole record (the one-iterate attack); sums
over sets that differ by one patient, and enough different sums of the same patients, give records
by subtraction and by linear algebra, as was shown of DataSHIELD (Huth et al. 2023). Here the
coordinator chooses nothing after the study document; what it can still do is refused, or counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from launch.federations.inprocess import InProcessFederation
from launch.queries.ask import ask
from launch.queries.exact_analyses import exact_glm
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.exact.transcript import SignedShares, replay, sections_of
from protocol.vectors import Vector
from protocol.wire import messages
from protocol.wire.exact_shares import to_wire
from server.rounds.attempt import Attempt, Traffic
from server.rounds.exact_run import ExactRun
from tasks import registry
from tasks.schema import PATIENT

TASK = "breast_cancer"
TABLES = registry.load(TASK).public_sites(None)
PRICE = Price(epsilon=2.0, attempts=3)
NOTHING: Vector = np.zeros(0, np.float32)


class Coordinator:
    """It has run the counts and one iterate honestly, and now does as it likes."""

    def __init__(self) -> None:
        question = exact_glm(Question.about(TASK), "malignant = 1 ~ mean_texture")
        patients = {site: len(table[PATIENT]) for site, table in TABLES.items()}
        self.study = build_query(question, patients, PRICE)
        federation = InProcessFederation({}, TABLES)
        self.roster = tuple(sorted(federation.roster.items()))
        self.fleet, self.governance = federation._fleet, federation.governance
        document = self.study.document.decode()
        for site in self.study.sites:
            answer = self._ask(site, messages.frame(messages.Propose(document=document)))
            assert isinstance(answer, messages.Standing)
            assert answer.state == "accepted"
        self.run = ExactRun(self.study, self.roster, None, lambda write: write())
        self.attempt, self.made = (
            Attempt(self.study, federation.roster, self.fleet, Traffic(), 10.0),
            0,
        )

    def sum(self) -> SignedShares:
        """The next round's shares, which are not taken up yet."""
        self.made += 1
        round_ = self.run.round
        opened = self.attempt.run(
            frozenset(self.study.sites),
            self.made,
            round_,
            sections_of(self.study, round_),
            NOTHING,
            (),
            self.run,
        )
        assert opened.shares is not None
        return opened.shares

    def prepare(
        self, site: str, round_: int, shares: Sequence[SignedShares]
    ) -> messages.Ready | Code:
        """Asks one site for an exact sum after these shares."""
        self.made += 1
        headers, words = to_wire(shares)
        message = messages.Prepare(
            study=self.study.digest,
            round=round_,
            attempt=self.made,
            train=True,
            evaluate=False,
            model=digest(words.view(np.uint8).data),
            opened=headers,
        )
        answer = self._ask(site, messages.frame(message, messages.chunks(words)))
        if isinstance(answer, messages.Refusal):
            return answer.code
        assert isinstance(answer, messages.Ready)
        return answer

    def _ask(self, site: str, frame: messages.Frame) -> messages.Request | messages.Answer:
        ((_, answer),) = self.fleet.ask({site: frame}, 10.0)
        assert answer is not None
        return messages.parse(answer)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


def test_no_sum_is_taken_at_an_iterate_of_the_coordinator_s(coordinator: Coordinator) -> None:
    """The one-iterate attack: a share is changed so that the next iterate isolates one patient."""
    coordinator.run.take(coordinator.sum())
    honest = coordinator.sum()
    site = coordinator.study.sites[0]
    words = honest.words.copy()
    words[0, 0] += np.uint64(10**9)
    shares = (*coordinator.run.shares, replace(honest, words=words))
    assert coordinator.prepare(site, 3, shares) is Code.IDENTITY
    with pytest.raises(WardroundError, match="not signed"):
        replay(coordinator.study, coordinator.roster, shares)
    signatures = tuple("00" * 64 for _ in honest.signatures)
    forged = (*coordinator.run.shares, replace(honest, signatures=signatures))
    assert coordinator.prepare(site, 3, forged) is Code.IDENTITY
    unharmed = coordinator.prepare(site, 3, (*coordinator.run.shares, honest))
    assert isinstance(unharmed, messages.Ready)


def test_no_round_is_skipped_repeated_or_begun_without_its_sums(coordinator: Coordinator) -> None:
    coordinator.run.take(coordinator.sum())
    counts = coordinator.run.shares
    (one,) = counts
    site = coordinator.study.sites[0]
    refused: list[tuple[int, tuple[SignedShares, ...]]] = [
        (2, ()),
        (3, counts),
        (2, (one, one)),
        (3, (one, replace(one, round=2))),
        (2, (replace(one, attempt=one.attempt + 1),)),
    ]
    for round_, shares in refused:
        assert isinstance(coordinator.prepare(site, round_, shares), Code), (round_, len(shares))
    assert isinstance(coordinator.prepare(site, 2, counts), messages.Ready)


def test_sites_that_opened_other_sums_mask_for_nobody(coordinator: Coordinator) -> None:
    """Two attempts at the counts open differently. A coordinator that tells one site of the first
    and the others of the second gets Readys of two contexts, whose masks never cancel."""
    first, second = coordinator.sum(), coordinator.sum()
    sites = coordinator.study.sites
    coordinator.made += 1
    at = coordinator.made
    readys = []
    for site in sites:
        coordinator.made = at - 1
        answer = coordinator.prepare(site, 2, (first if site == sites[0] else second,))
        assert isinstance(answer, messages.Ready)
        readys.append(answer)
    assert readys[0].context != readys[1].context == readys[2].context
    place: dict[str, Any] = {"study": coordinator.study.digest, "round": 2, "attempt": at}
    collect = messages.frame(messages.Collect(**place, readys=tuple(readys)))
    for site in sites:
        refusal = coordinator._ask(site, collect)
        assert isinstance(refusal, messages.Refusal)
        assert refusal.code is Code.AGGREGATION


def test_a_study_whose_weights_rest_on_few_patients_is_ended_by_the_site() -> None:
    """An offset in the column's own units makes all weights but a few vanish, at the first iterate
    already. The answer is the same whatever the reason, and comes after the debit."""
    question = exact_glm(Question.about(TASK), "malignant = 1 ~ mean_texture + offset(mean_area)")
    with pytest.raises(WardroundError, match="about few of its patients") as caught:
        ask(question, PRICE)
    assert caught.value.code is Code.REVOKED


def test_an_ended_study_stays_ended() -> None:
    question = exact_glm(Question.about(TASK), "malignant = 1 ~ mean_texture + offset(mean_area)")
    patients = {site: len(table[PATIENT]) for site, table in TABLES.items()}
    study = build_query(question, patients, PRICE)
    federation = InProcessFederation({}, TABLES)
    governance = next(iter(federation.governance.values()))
    governance.end(study, "few")
    with pytest.raises(WardroundError) as caught:
        governance.admit(study)
    assert caught.value.code is Code.REVOKED


def test_a_linear_system_of_sums_is_no_larger_than_the_plan_says(coordinator: Coordinator) -> None:
    """What is opened of all patients in a whole study: its iterates times the numbers of a sum, and
    as many exact releases as that in every ledger."""
    study = coordinator.study
    assert study.exact is not None
    rounds = [r for r in range(1, 30) if study.trains(r)]
    assert len(rounds) == study.exact.iterates <= 15
    assert sections_of(study, 2).length == study.exact.cells == 7
    assert study.exact_attempts == study.exact.iterates + PRICE.attempts - 1


def test_sums_past_the_estimate_are_refused(coordinator: Coordinator) -> None:
    while not coordinator.run.over:
        coordinator.run.take(coordinator.sum())
    site, shares = coordinator.study.sites[0], coordinator.run.shares
    assert coordinator.prepare(site, len(shares) + 1, shares) is Code.MESSAGE
