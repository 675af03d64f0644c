"""The round loop: one study from its proposal to its last sum, the same for every federation.
Whoever runs it tells the sites how it ended (`server.rounds.farewell`).

Round r asks for one sum: the update from the model made by round r - 1 and, where the study says
so, that model's score histogram. A closing round only evaluates. A sum that cannot be opened is
asked for again in a new attempt, until the attempts that epsilon pays for are spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from protocol.errors import Code, WardroundError
from protocol.metrics.query_answers import Answer, answers
from protocol.metrics.subgroup_figures import SubgroupFigures, subgroup_figures
from protocol.models.starting_model import in_words
from protocol.outcomes.estimates import Estimate
from protocol.statistics.analyses import analyse
from protocol.statistics.results import AnalysisResult
from protocol.study.algorithms import keeps_state
from protocol.study.exact_analysis import honest
from protocol.study.study import Study
from protocol.study.vector_layout import (
    Sections,
    decode_control,
    decode_gradient,
    decode_histogram,
    histogram_variance,
    of_everyone,
)
from protocol.vectors import Vector
from server.model import attempt_record
from server.model.attempts import Attempts
from server.model.checkpoint import Checkpoint
from server.model.global_model import GlobalModel, diverged
from server.model.robust_aggregation import robust_gradient
from server.model.suspects import Suspects
from server.outcome import CalibrationPoint, OpenedScores, Outcome, RoundReport, Status
from server.rounds.attempt import Attempt, AttemptLostError, OpenedSum, Traffic
from server.rounds.exact_run import SHARES, ExactRun
from server.rounds.listener import Listener
from server.rounds.participants import Participants
from server.rounds.proposal import Patience, Proposal
from server.rounds.transport import Fleet
from tasks.base import Task

SHOWS_ONE = "an exact sum can show one patient"
"""What every report says of sums without noise."""


class RoundLoop:
    """One study. `run` returns its outcome or raises WardroundError with what to do."""

    def __init__(
        self,
        study: Study,
        task: Task,
        fleet: Fleet,
        identities: Mapping[str, str],
        listener: Listener,
        *,
        checkpoint: Path | None = None,
        begun: Path | None = None,
        store: Callable[[Callable[[], None]], None] = lambda write: write(),
        patience: Patience | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        revoked: Callable[[], frozenset[str]] = frozenset,
        accepted: Collection[str] = (),
        remember: Callable[[Collection[str]], None] = lambda accepted: None,
        start: Vector | None = None,
    ) -> None:
        """identities: site -> public identity key in hex, the coordinator's own roster. revoked:
        the study's sites whose keys no sum may hold any more.

        `cancelled` is checked between exchanges. begun: the file of the attempts that sites may
        have seen (`attempt_record`), for sites that outlive this process. store: does the write of
        either file, and may wait until it succeeds. If they exist, the study resumes there.
        accepted, remember: as for `Participants`. start: as for `initial_weights`.
        """
        self.study, self.fleet, self.listener = study, fleet, listener
        self.patience = patience or Patience()
        self._identities = identities
        self.traffic = Traffic()
        self.model = GlobalModel(study, task, start)
        self.attempts, self.suspects = Attempts(), Suspects()
        self._attempt = Attempt(
            study,
            identities,
            fleet,
            self.traffic,
            self.patience.answer,
            self.patience.comeback,
            self.patience.poll,
            self._check_cancelled,
        )
        self._checkpoint, self._store, self._cancelled = checkpoint, store, cancelled
        self._participants = Participants(
            Proposal(
                study,
                fleet,
                listener,
                self.traffic,
                self.patience,
                self._check_cancelled,
                identities,
                revoked,
            ),
            accepted,
            remember,
        )
        self._reports: list[RoundReport] = []
        self._pending: RoundReport | None = None
        self._scored: OpenedScores | None = None
        self._subgroups: tuple[SubgroupFigures, ...] = ()
        self._answers: tuple[Answer, ...] = ()
        self._analysis: AnalysisResult | None = None
        self._started = time.monotonic()
        saved = None if checkpoint is None else Checkpoint.load(checkpoint, study.digest)
        if saved is not None:
            self.model.restore(saved)
            self.attempts, self._pending = saved.attempts, saved.report
            self.suspects = saved.suspects
        self._exact: ExactRun | None = None
        if study.exact is not None:
            roster = tuple((site, identities[site]) for site in study.sites)
            path = None if checkpoint is None else checkpoint.with_name(SHARES)
            self._exact = ExactRun(study, roster, path, store)
        self._begun = begun
        if begun is not None:
            self.attempts = attempt_record.recorded(begun, self.attempts)

    def run(self) -> Outcome:
        """Proposes the study and runs every round.

        The listener gets the outcome in every case. Raises WardroundError (TOO_FEW_SITES,
        ATTEMPTS_SPENT, AGGREGATION, DIVERGED), or KeyboardInterrupt when cancelled.
        """
        status: Status = "failed"
        final: dict[str, Estimate] = {}
        try:
            self._participants.gather()
            self._participants.leave_out(self.suspects.left_out)
            if self._pending and not self.study.evaluates(self._pending.round + 1):
                self._emit({})  # resumed between the checkpoint and the report
            if self._exact is not None:
                self._analyse(self._exact)
            else:
                while self.model.round < self.study.optimisation.rounds and not self._stopped():
                    self._train()
                final = self._evaluate_released()
            status = "finished"
        except KeyboardInterrupt:
            status = "killed"
            raise
        finally:
            outcome = self._outcome(status, final)
            self.listener.finish(outcome)
        return outcome

    def _train(self) -> None:
        round_ = self.model.round + 1
        started, before = time.monotonic(), replace(self.traffic)
        sections = Sections(self.study, train=True, evaluate=self.study.evaluates(round_))
        opened = self._sum(round_, sections)
        metrics = self._report_scores(opened, sections)
        if sections.evaluate:
            self.model.stopping.update(metrics, self.model.iterate)
        if not self._stopped():  # the model is released as it was scored
            self._step(opened, sections, round_)
        if not self._stopped():
            self._pending = RoundReport(
                round=round_,
                attempt=self.attempts.made,
                participants=len(opened.participants),
                seconds=time.monotonic() - started,
                bytes_sent=self.traffic.sent - before.sent,
                bytes_received=self.traffic.received - before.received,
                epsilon=self.attempts.epsilon_so_far(self.study),
            )
        self._save()
        if not self._stopped() and not self.study.evaluates(round_ + 1):
            self._emit({})

    def _analyse(self, run: ExactRun) -> None:
        """An exact analysis: counts, then sums until the iterates settle."""
        sites = len(self.study.roster)
        while not run.over:
            round_ = run.round
            sections = Sections(
                self.study, train=self.study.trains(round_), evaluate=self.study.evaluates(round_)
            )
            opened = self._sum(round_, sections)
            if opened.shares is None:
                raise WardroundError(Code.INTERNAL, "An exact sum has no shares.")
            run.take(opened.shares)
        self._answers = answers(self.study, np.array(run.past.counts), sites)
        self._analysis = run.result()

    def _save(self) -> None:
        if (path := self._checkpoint) is not None:
            checkpoint = self.model.checkpoint(self.attempts, self.suspects, self._pending)
            self._store(lambda: checkpoint.save(path))

    def _step(self, opened: OpenedSum, sections: Sections, round_: int) -> None:
        if opened.updates:
            gradient = robust_gradient(self.study, opened.updates)
        else:
            total = opened.total[sections.update]
            gradient = decode_gradient(self.study, total, opened.participants, round_)
        moved = decode_control(self.study, opened.total[sections.control], round_)
        self.model.step(gradient, moved if len(moved) else None)

    def _stopped(self) -> bool:
        return self.model.stopping.over

    def _evaluate_released(self) -> dict[str, Estimate]:
        """The closing round: scores the model that the study releases. None without evaluation."""
        if not self.study.evaluation.takes_place:
            return {}
        sections = Sections(self.study, train=False, evaluate=True)
        opened = self._sum(self.study.optimisation.rounds + 1, sections)
        return self._report_scores(opened, sections)

    def _sum(self, round_: int, sections: Sections) -> OpenedSum:
        """Attempts until one opens."""
        body, failures = self.model.body(sections), 0
        while failures < self.patience.failures:
            self._rest(failures)
            self._require_attempts(round_)
            sites = self._asked(sections, round_)
            self._catch_up()
            self._require_attempts(round_)
            self._begin(sections)
            try:
                opened = self._attempt.run(
                    sites, self.attempts.made, round_, sections, body, self._lost(), self._exact
                )
                self._participants.note(opened.refusals)
                self._participants.pace.note(round_, opened.seconds)
                self.suspects = self.suspects.open(opened.participants)
                return opened
            except AttemptLostError as lost:
                self.attempts = self.attempts.lose()
                found = self._suspect(lost)
                self._note(round_, sites, lost, found)
                last = lost
                failures = 0 if found else failures + 1
        codes = ", ".join(sorted(set(last.refusals.values())))
        among = f"one of {', '.join(sorted(last.suspects))}" if last.suspects else "no answer"
        raise WardroundError(
            Code.AGGREGATION,
            f"Round {round_} was lost {self.patience.failures} times in a row: "
            f"{last.why} ({codes or among}).",
            remedy="The sites' own logs say more under these codes.",
        )

    def _require_attempts(self, round_: int) -> None:
        """Raises WardroundError(ATTEMPTS_SPENT) where none is left."""
        if self.attempts.made >= self.study.aggregation.attempts:
            raise WardroundError(
                Code.ATTEMPTS_SPENT,
                f"All {self.attempts.made} attempts that epsilon pays for are spent "
                f"at round {round_}.",
                remedy="The model so far is released as unfinished. For another study, plan "
                "for more losses: aggregation.loss, or aggregation.spare_attempts.",
            )

    def _rest(self, failures: int) -> None:
        """Gives what a round was lost for time to pass, before it is tried again."""
        until = time.monotonic() + pause(failures, self.patience.poll)
        self._check_cancelled()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, self.patience.poll))
            self._check_cancelled()

    def _catch_up(self) -> None:
        """Counts attempts that sites have answered and that a coordinator put back from a backup
        does not know of, until each site has said how many. Otherwise no site is believed about
        them: this coordinator's own record is durable."""
        if (path := self._begun) is not None and attempt_record.is_behind(path):
            answered = min(self._participants.answered, self.study.aggregation.attempts)
            self.attempts = attempts = attempt_record.skipped(self.attempts, answered)
            note = attempt_record.record if self._participants.absent else attempt_record.caught_up
            self._store(lambda: note(path, attempts))

    def _begin(self, sections: Sections) -> None:
        """Counts one more attempt, durably before any site is asked for it."""
        begun = self.attempts.begin(sections)
        if (path := self._begun) is not None:
            self._store(lambda: attempt_record.record(path, begun))
        self.attempts = begun

    def _lost(self) -> tuple[int, ...]:
        """Attempts without a sum; only sites with state between rounds need to know them."""
        return self.attempts.lost if keeps_state(self.study.optimisation.local) else ()

    def _asked(self, sections: Sections, round_: int) -> frozenset[str]:
        """The sites of the next attempt."""
        if not self.study.whole_roster:
            return self._participants.among(self.suspects, sections, round_)
        return self._participants.online(sections)

    def _suspect(self, lost: AttemptLostError) -> frozenset[str]:
        """Notes, durably, whom a lost attempt makes suspect. Returns who is left out for it."""
        if not lost.suspects or self.study.whole_roster:
            return frozenset()
        before, self.suspects = self.suspects, self.suspects.lose(lost.suspects)
        self._save()
        return self.suspects.left_out - before.left_out

    def _note(
        self, round_: int, asked: frozenset[str], lost: AttemptLostError, found: frozenset[str]
    ) -> None:
        """Raises WardroundError(DIVERGED) where more sites say so than may be lying."""
        named = "".join(f"; {site} alone was in every such sum: left out" for site in found)
        self.listener.lost(round_, self.attempts.made, lost.why + named)
        say_so = sum(code is Code.DIVERGED for code in lost.refusals.values())
        if say_so and say_so >= min(len(asked), 1 + max(1, self.study.aggregation.colluding_sites)):
            raise diverged(self.study, round_)
        self._participants.note(lost.refusals)
        self._participants.require_enough()
        self._participants.leave_out(found)

    def _report_scores(self, opened: OpenedSum, sections: Sections) -> dict[str, Estimate]:
        """Completes the report of the round that made the model which this sum scored."""
        if not sections.evaluate:
            return {}
        sites = len(opened.participants)
        if self.study.query is not None:
            self._answers = answers(self.study, opened.total[sections.histogram], sites)
            self._analysis = analyse(self.study, opened.total[sections.histogram], sites)
            return {}
        scale, bins = self.study.evaluation.scale, self.study.evaluation.bins
        variance = histogram_variance(self.study, sites) * sites / scale**2
        histogram = decode_histogram(self.study, opened.total[sections.histogram])
        counts = of_everyone(self.study, histogram)
        self._scored = OpenedScores(tuple(counts.tolist()), variance)
        self._subgroups = subgroup_figures(self.study, histogram, variance)
        metrics = self.study.outcome.pooled(counts, bins, variance)
        self._emit(metrics)
        return metrics

    def _emit(self, metrics: dict[str, Estimate]) -> None:
        report, self._pending = self._pending, None
        if report is not None:  # none after a resumption at the closing round
            self._reports.append(replace(report, metrics=metrics))
            self.listener.round(self._reports[-1])

    def _outcome(self, status: Status, final: dict[str, Estimate]) -> Outcome:
        return Outcome(
            status=status,
            study=self.study,
            weights=np.array(self.model.released),
            rounds=tuple(self._reports),
            metrics=final,
            epsilon=self.attempts.epsilon(self.study),
            epsilon_broken=self.attempts.epsilon(self.study, broken=True),
            uncovered=uncovered(self.study),
            seconds=time.monotonic() - self._started,
            bytes_sent=self.traffic.sent,
            bytes_received=self.traffic.received,
            calibration=self._calibration(),
            confusion=self._confusion(),
            answers=self._answers,
            scores=self._scored,
            subgroups=self._subgroups,
            approvals=self._participants.approvals,
            analysis=self._analysis,
        )

    def _calibration(self) -> tuple[CalibrationPoint, ...]:
        """Of the model that was scored last: the released one, once the study is finished."""
        if self._scored is None:
            return ()
        counts, bins = np.array(self._scored.counts), self.study.evaluation.bins
        points = self.study.outcome.calibration(counts, bins)
        return tuple(CalibrationPoint(*point) for point in points)

    def _confusion(self) -> tuple[tuple[float, ...], ...]:
        """Likewise."""
        if self._scored is None:
            return ()
        counts, bins = np.array(self._scored.counts), self.study.evaluation.bins
        return tuple(map(tuple, self.study.outcome.confusion(counts, bins)))

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise KeyboardInterrupt


def pause(failures: int, poll: float) -> float:
    """Seconds before the next attempt at a round that was lost so many times in a row: 0 after the
    first loss, then 1, 5, 21 times `poll` and so on, a minute at most. A hospital's disk that is
    full for some seconds shall not cost a study all the failures that it has patience for."""
    return min(60.0, poll * (4.0 ** max(0, failures - 1) - 1) / 3)


def uncovered(study: Study) -> str:
    """Which patients the study's epsilon does not cover, in words for every report; among them
    those of the model that it starts from, with the epsilon of that."""
    return " ".join(said for said in (_uncovered_here(study), in_words(study)) if said)


def _uncovered_here(study: Study) -> str:
    if study.exact is not None:
        return (
            f"Epsilon covers the noised counts alone. Up to {study.exact.iterates} sums have no "
            f"noise, and {SHOWS_ONE}. {honest(study.exact)}"
        )
    if not study.privacy.traits.private:
        covered = (
            "Epsilon covers evaluation alone: training"
            if study.evaluation.noised
            else "No patient is covered: the study"
        )
        return f"{covered} runs without differential privacy, and {SHOWS_ONE}."
    if not study.evaluation.exact:
        return ""
    share = (
        f"the {study.evaluation.fraction:.0%} of patients that each site keeps for evaluation"
        if study.evaluation.disjoint
        else "the patients in the cohort's evaluation split"
    )
    return (
        f"Epsilon does not cover {share}: their score histogram is summed exactly, and {SHOWS_ONE}."
    )
