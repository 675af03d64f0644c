"""Asks a federation a question, in this process or at a coordinator, and returns the answers.

question = Question.about("heart_disease", where="age >= 60").count().table("age", "sex")
answered = ask(question, Price(epsilon=0.5))
answered            # in a notebook: bars with 95% intervals
answered["age by sex"]
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from launch.federations.deployment import RemoteFederation
from launch.queries.query_builder import USUAL, Price, build_query, cost
from launch.queries.question import Question
from launch.studies.permit import under_permit
from launch.studies.progress import WAITING
from launch.studies.public_data import data_root
from protocol.durable_files import PUBLIC, write
from protocol.errors import Code, WardroundError
from protocol.metrics.query_answers import Answer
from protocol.privacy.epsilon_text import rounded_up
from protocol.release import RELEASE
from protocol.statistics.results import AnalysisResult
from protocol.study.study import Study
from protocol.terminal.printable import printable
from server.answers import analysis_page, analysis_report
from server.answers.query_page import page
from server.answers.query_report import plain, to_csv
from server.enrolment.roster import banded
from server.outcome import Outcome
from server.rounds.listener import Listener, Listeners, Reason
from server.tracking.summary import write_summary
from server.tracking.tracker import MlflowTracker, TrackingReceipt
from tasks.schema import PATIENT

_FAREWELL = 20.0


@dataclass(frozen=True)
class Where:
    """Whom to ask: the coordinator of `credentials`, or in this process the task's public data.

    tracking: MLflow's address, in this process only (a coordinator has its own); output: a folder
    for study.json and summary.json. permit: the file of the permit under which hospitals are asked
    (`launch.studies.permit`).
    """

    credentials: Path | None = None
    coordinator: str | None = None
    tracking: str | None = None
    experiment: str = "wardround"
    output: Path | None = None
    permit: Path | None = None
    console: Console | None = None


@dataclass(frozen=True)
class QueryResult:
    """The answers to a question. Shows itself in a notebook."""

    outcome: Outcome
    receipt: TrackingReceipt

    def __getitem__(self, name: str) -> Answer:
        return {answer.name: answer for answer in self.outcome.answers}[name]

    @property
    def analysis(self) -> AnalysisResult | None:
        """What the answers were read as, where the question is an analysis."""
        return self.outcome.analysis

    @property
    def plain(self) -> list[dict[str, Any]]:
        """As JSON: every figure with its interval."""
        return plain(self.outcome)

    def page(self) -> str:
        """As one HTML page: of the analysis, or of the counts."""
        if self.analysis is None:
            return page(self.outcome)
        return analysis_page.page(self.outcome, self.analysis)

    def csv(self) -> str:
        """The figures of the analysis, or of the counts, one a line."""
        if self.analysis is None:
            return to_csv(self.outcome)
        return analysis_report.to_csv(self.analysis)

    def _repr_html_(self) -> str:
        return self.page()


_HERE = Where()


def ask(question: Question, price: Price = USUAL, where: Where = _HERE) -> QueryResult:
    """Shows the cost of a question, asks it, and waits for the answers; by default from the task's
    public data, in this process.

    Raises WardroundError as `RoundLoop.run` does, CREDENTIALS, TLS, UNREACHABLE, NO_DATA;
    KeyboardInterrupt when interrupted, after the query was cancelled.
    """
    if where.credentials is not None:
        answered = _remotely(question, price, where)
    else:
        answered = _here(question, price, where)
    if where.output is not None:
        _write_result(answered.outcome, where.output)
    return answered


def dry_run(question: Question, price: Price, where: Where) -> tuple[Study, dict[str, Any] | None]:
    """The study that `ask` would send, and how a deployment's sites would answer it. No data is
    read, and no site records the study."""
    if where.credentials is None:
        return build_query(question, _declared(question), price), None
    with RemoteFederation(where.credentials, address=where.coordinator) as remote:
        study = remote.pinned(build_query(question, remote.patients(), price))
        study = under_permit(study, where.permit)
        return study, remote.consult(study)


def _here(question: Question, price: Price, where: Where) -> QueryResult:
    if question.scored is not None:
        raise WardroundError(
            Code.CREDENTIALS,
            "Only hospitals have predictions of a model to be counted.",
            remedy="Give --credentials FILE, which the coordinator's operator made with "
            "`wardround coordinator account add`.",
        )
    from launch.federations.inprocess import InProcessFederation  # PyTorch and Opacus: for sites

    tables = question.task.public_sites(data_root())
    study = build_query(question, _declared(question), price)
    progress = QueryProgress(study, where.console)
    if where.tracking is None:
        with progress:
            outcome = InProcessFederation({}, tables).run(study, question.task, progress)
        return QueryResult(outcome, TrackingReceipt())
    undelivered = (where.output or Path("outputs")) / "undelivered"
    tracker = MlflowTracker(where.tracking, where.experiment, undelivered=undelivered)
    tracker.begin(study, {"query": _configuration(question, price)}, RELEASE)
    try:
        with progress:
            listeners = Listeners(progress, tracker)
            outcome = InProcessFederation({}, tables).run(study, question.task, listeners)
    except BaseException:
        tracker.settle(timeout=10.0)
        raise
    return QueryResult(outcome, tracker.settle())


def _remotely(question: Question, price: Price, where: Where) -> QueryResult:
    if where.credentials is None:
        raise WardroundError(
            Code.CREDENTIALS,
            "A deployment needs a coordinator's credentials.",
            remedy="Give --credentials FILE, which the coordinator's operator made with "
            "`wardround coordinator account add`.",
        )
    with RemoteFederation(where.credentials, address=where.coordinator) as remote:
        study = remote.pinned(build_query(question, remote.patients(), price))
        study = under_permit(study, where.permit)
        configuration = {"query": _configuration(question, price)}
        names = {"experiment": where.experiment}
        with QueryProgress(study, where.console) as progress:
            try:
                outcome = remote.run(study, configuration, names, progress)
            except KeyboardInterrupt:
                with contextlib.suppress(WardroundError):
                    remote.cancel(study.digest, wait=_FAREWELL)
                raise
        return QueryResult(outcome, remote.receipt)


def _declared(question: Question) -> dict[str, int]:
    """Patients by site of the public data, rounded as a site may declare them."""
    tables = question.task.public_sites(data_root())
    return {site: banded(len(set(table[PATIENT].tolist()))) for site, table in tables.items()}


def _configuration(question: Question, price: Price) -> dict[str, Any]:
    return {
        "task": question.task.name,
        "least_count": question.least_count,
        "statistics": len(question.statistics),
        **asdict(price),
    }


def _write_result(outcome: Outcome, output: Path) -> None:
    folder = output / outcome.study.digest[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "study.json", outcome.study.document, mode=PUBLIC)
        write_summary(outcome, folder / "summary.json")
    except OSError as error:
        raise WardroundError(
            Code.USAGE, f"{folder} cannot be written: {error.strerror}.", remedy="Set --output."
        ) from None


class QueryProgress(Listener):
    """A listener that shows which sites a query waits for. Use as a context manager."""

    def __init__(self, study: Study, console: Console | None) -> None:
        self._study, self._console = study, console
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> QueryProgress:
        if self._console is not None:
            self._console.print(cost(self._study), markup=False, highlight=False)
            if self._console.is_terminal:
                self._status = self._console.status("asking the sites")
                self._stack.enter_context(self._status)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def waiting(self, why: Reason, sites: tuple[str, ...]) -> None:
        if sites:
            self._show(WAITING[why] + ", ".join(sites))

    def lost(self, round_: int, attempt: int, why: str) -> None:
        self._show(f"attempt {attempt} was lost ({why})")

    def _show(self, text: str) -> None:
        if self._console is not None:
            self._console.print(Text(printable(text)))


def receipt_lines(answered: QueryResult) -> Iterator[str]:
    """Privacy spent, the study's digest and its run in MLflow."""
    outcome = answered.outcome
    if outcome.epsilon is not None:
        delta = outcome.study.privacy.delta
        yield f"epsilon {rounded_up(outcome.epsilon)} spent at delta {delta:g}"
    yield f"study {outcome.study.digest[:12]}, {outcome.seconds:.1f} s"
    if answered.receipt.url:
        yield f"MLflow: {answered.receipt.url}"
    if answered.receipt.missing:
        yield f"Not in MLflow yet: {', '.join(answered.receipt.missing)}."
        yield answered.receipt.remedy
