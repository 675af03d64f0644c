"""Two studies on the same sites at once: neither waits for the other, and both are as if alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.governance.budget import spending_by_study
from client.training.contribution import Contributor
from launch.config import compose
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.study.study import Study
from protocol.wire.messages import Frame, Prepare, Propose, Ready, frame, parse
from server.outcome import Outcome
from server.rounds.listener import Listeners
from tasks.shipped.breast_cancer import BreastCancer
from tests.client.daemon_federation import Wards, renamed
from tests.client.hospital import Hospital, numbered, policy
from tests.waiting import HUNG, until

TASK = BreastCancer()
CONFIG = compose.load(["privacy=none", "evaluation=exact", "rounds=3"])
COHORTS = cohorts_of(TASK, TASK.public_sites(None), split_plan(CONFIG))


def made(number: int) -> Study:
    return renamed(build_study(CONFIG, TASK, declared_patients(COHORTS)), number)


# --- one process ---
class Held:
    """Every site's training of one study waits for the test."""

    def __init__(self, patch: pytest.MonkeyPatch, held: Study) -> None:
        self.training, self.release = threading.Event(), threading.Event()
        contribution = Contributor.contribution

        def waiting(this: Contributor, *args: Any) -> Any:
            if this.context.study.digest == held.digest:
                self.training.set()
                assert self.release.wait(HUNG)
            return contribution(this, *args)

        patch.setattr(Contributor, "contribution", waiting)


def test_a_study_finishes_while_another_trains_and_both_end_as_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long, quick = made(1), made(2)
    alone = [InProcessFederation(COHORTS).run(s, TASK, Listeners()) for s in (long, quick)]
    together = InProcessFederation(COHORTS)
    held, outcomes = Held(monkeypatch, long), list[Outcome]()
    thread = threading.Thread(
        target=lambda: outcomes.append(together.run(long, TASK, Listeners())), daemon=True
    )
    thread.start()
    assert held.training.wait(HUNG)
    outcomes.append(together.run(quick, TASK, Listeners()))
    held.release.set()
    thread.join(HUNG)
    assert [outcome.study for outcome in outcomes] == [quick, long]
    for outcome, before in zip(reversed(outcomes), alone, strict=True):
        np.testing.assert_array_equal(outcome.weights, before.weights)


def test_questions_about_one_study_are_answered_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever brings them: an attempt that trains is never overtaken by a later one."""
    federation = InProcessFederation(COHORTS)
    asked = list[Frame]()
    site = federation._fleet._sites["west"]
    answer = site.answer

    def noting(received: Frame) -> Frame:
        asked.append(Frame(received.header, [bytes(chunk) for chunk in received.body]))
        return answer(received)

    monkeypatch.setattr(site, "answer", noting)
    federation.run(made(3), TASK, Listeners())
    first = next(frame for frame in asked if isinstance(parse(frame), Prepare))
    prepare = parse(first)
    assert isinstance(prepare, Prepare)
    later = frame(prepare.model_copy(update={"attempt": 2}), first.body)
    again = InProcessFederation(COHORTS)._fleet._sites["west"]
    again.answer(frame(Propose(document=made(3).document.decode())))
    contribution, overtaking = Contributor.contribution, list[threading.Thread]()

    def training(this: Contributor, *args: Any) -> Any:
        if not overtaking:
            overtaking.append(threading.Thread(target=again.answer, args=(later,), daemon=True))
            overtaking[0].start()
            overtaking[0].join(1.0)
        return contribution(this, *args)

    monkeypatch.setattr(Contributor, "contribution", training)
    assert isinstance(parse(again.answer(first)), Ready)
    overtaking[0].join(HUNG)
    attempt = again._loaded[made(3).digest].attempt
    assert attempt is not None
    assert attempt.attempt == 2


# --- the ledger ---
Debits = list[tuple[int, int]]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=4),
        min_size=2,
        max_size=4,
    )
)
@settings(max_examples=8, deadline=None)
def test_the_ledger_after_studies_at_once_is_that_of_the_same_studies_in_sequence(
    tmp_path_factory: pytest.TempPathFactory, plans: list[Debits]
) -> None:
    rules = policy(approval="rule", epsilon_lifetime=1000.0)
    folder = tmp_path_factory.mktemp("ledger")
    one, other = (Hospital.found(folder / name, rules) for name in ("sequence", "at once"))

    def work(at: Hospital, number: int, debits: Debits) -> None:
        study, attempt = numbered(number), 0
        assert at.approvals.propose(study) == ("accepted", None)
        for round_, step in debits:
            attempt += step
            at.debit(study, round_, attempt)
        if len(debits) % 2:
            at.approvals.close(study, "finished")

    for number, debits in enumerate(plans):
        work(one, number, debits)
    threads = [
        threading.Thread(target=work, args=(other, number, debits), daemon=True)
        for number, debits in enumerate(plans)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUNG)
    spent = [
        sorted(spending_by_study(at.state, rules), key=lambda study: study.digest)
        for at in (one, other)
    ]
    assert len(spent[0]) == len(plans)
    assert spent[0] == spent[1]
    assert one.audit.verify() == other.audit.verify()
    for at in (one, other):
        at.state.close()


# --- real daemons ---
@pytest.fixture
def wards(tmp_path: Path) -> Iterator[Wards]:
    found = Wards(tmp_path)
    yield found
    found.close()


def test_daemons_answer_a_study_while_another_trains_and_one_that_is_killed_goes_on(
    wards: Wards,
) -> None:
    daemons = {site: wards.daemon(site) for site in wards.sites}
    wards.until_online()
    template = wards.study(rounds=2)
    long, quick, third = (renamed(template, number) for number in (1, 2, 3))
    victim = wards.folder / "west"
    (victim / f"held {long.digest}").touch()
    training = wards.run(long)
    until(lambda: long.digest in computed(victim), "it trains")

    assert wards.run(quick).outcome().status == "finished"
    assert training.told.rounds == []

    assert daemons["west"].process.pid is not None
    daemons["west"].process.kill()
    assert daemons["west"].ended() == -signal.SIGKILL
    (victim / f"held {long.digest}").unlink()
    daemons["west"] = wards.daemon("west")
    assert training.outcome().status == "finished"
    assert wards.run(third).outcome().status == "finished"
    assert [daemon.stop() for daemon in daemons.values()] == [0] * len(daemons)
    for site in wards.sites:
        wards.verify_books(site)


def test_a_daemon_that_stops_ends_what_it_computes_and_gives_the_sum_it_has_paid_for(
    wards: Wards,
) -> None:
    daemons = {site: wards.daemon(site) for site in wards.sites}
    wards.until_online()
    study = wards.study(rounds=2)
    held = wards.folder / "west" / f"held {study.digest}"
    held.touch()
    running = wards.run(study)
    until(lambda: study.digest in computed(held.parent), "it trains")
    daemons["west"].process.terminate()
    until(lambda: "stopping" in daemons["west"].log.read_text(), "it is told to stop")
    held.unlink()
    assert daemons["west"].ended() == 0
    daemons["west"] = wards.daemon("west")
    outcome = running.outcome()
    assert outcome.status == "finished"
    assert running.told.losses == []
    assert outcome.rounds[0].participants == len(wards.sites)
    for daemon in daemons.values():
        daemon.stop()


def test_a_daemon_that_stops_gives_the_sum_it_owes_though_other_studies_ask_it(
    wards: Wards,
) -> None:
    daemons = {site: wards.daemon(site) for site in wards.sites}
    wards.until_online()
    template = wards.study(rounds=1)
    owed, other = (renamed(template, number) for number in (1, 2))
    held = wards.folder / "north" / f"held {owed.digest}"
    held.touch()
    running = wards.run(owed)
    until(lambda: owed.digest in computed(held.parent), "the others wait for it")
    until(lambda: '"sent"' in daemons["west"].log.read_text(), "it owes a sum")
    daemons["west"].process.terminate()
    until(lambda: "stopping" in daemons["west"].log.read_text(), "it is told to stop")
    asking = wards.run(other)
    until(lambda: bool(asking.told.waits), "it is asked in vain")
    held.unlink()
    assert running.outcome().status == "finished"
    assert running.told.losses == []
    assert daemons["west"].ended() == 0
    daemons["west"] = wards.daemon("west")
    assert asking.outcome().status == "finished"
    for daemon in daemons.values():
        daemon.stop()


def computed(folder: Path) -> str:
    record = folder / "computed"
    return record.read_text() if record.exists() else ""
