"""The ledger: spent before it is used, never credited, never overspent, whatever the coordinator
sends and whatever becomes of the process."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.governance.budget import budget, history, spending_by_study
from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import Event, epsilon_over_bands
from protocol.privacy.releases import planned_events
from protocol.study.study import Study
from protocol.wire.messages import Ending
from tests.client.hospital import Hospital, die, in_child, numbered, policy


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital.found(tmp_path / "state")


def refused(code: Code, action: Callable[[], object]) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        action()
    assert caught.value.code == code, caught.value
    return caught.value


def spent(hospital: Hospital) -> float:
    return budget(hospital.state, hospital.ledger.policy).spent


def rows(hospital: Hospital) -> list[tuple[str, int, str, int]]:
    with hospital.state.reading() as db:
        return db.execute("SELECT study, attempt, part, count FROM debits").fetchall()


# What one attempt costs


def test_spent_is_the_composition_of_what_was_debited(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    assert spent(hospital) == 0
    for round_ in (1, 2, 3, 4, 5, 6):
        hospital.debit(study, round_, round_)
    train = Event("gaussian", 2.0, 0.2, count=6, band=(0.0, 0.7))
    evaluate = Event(
        "skellam", 50.0, dimension=64, scale=256.0, rounding="none", shared=False, band=(0.7, 1.0)
    )
    one_view = [replace(event, names="one view") for event in (train, evaluate)]
    assert spent(hospital) == pytest.approx(epsilon_over_bands(one_view, 1e-5))
    (shown,) = spending_by_study(hospital.state, hospital.ledger.policy)
    assert (shown.trained, shown.evaluated) == ((6, 25), (1, 8))
    assert [debit.part for debit in history(hospital.state)].count("evaluate") == 1


def test_a_debit_is_the_same_after_a_restart(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    before = spent(hospital)
    hospital = hospital.again(daemon=True)
    assert spent(hospital) == before > 0
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 1, 1))
    hospital.debit(study, 1, 2)
    assert spent(hospital) > before


def test_closing_and_revoking_credit_only_what_was_never_debited(hospital: Hospital) -> None:
    ends: tuple[Callable[[Study], None], ...] = (
        lambda study: hospital.approvals.close(study, "failed"),
        hospital.approvals.revoke,
    )
    for number, end in enumerate(ends, 1):
        study = hospital.accept(numbered(number))
        hospital.debit(study, 1, 1)
        before = spent(hospital)
        end(study)
        account = budget(hospital.state, hospital.ledger.policy)
        assert account.spent == account.reserved == before
    assert spent(hospital) > 0


def test_an_exact_release_is_counted_and_named_as_uncovered(tmp_path: Path) -> None:
    rules = policy(modes=["none", "local"], exact_evaluation=True, exact_releases=100)
    hospital = Hospital.found(tmp_path / "state", rules)
    exact = numbered(
        1,
        privacy={"mode": "none"},
        evaluation={"every": 5, "release": "exact"},
    )
    hospital.accept(exact)
    hospital.debit(exact, 1, 1)
    hospital.debit(exact, 6, 2)
    (shown,) = spending_by_study(hospital.state, rules)
    assert shown.exact == ("evaluate", "train")
    assert (shown.epsilon, shown.trained[0], shown.evaluated[0]) == (0, 2, 1)


# Hostile order


def test_only_an_accepted_study_is_debited(hospital: Hospital) -> None:
    study = numbered(1)
    refused(Code.REFUSED_STUDY, lambda: hospital.debit(study, 1, 1))
    hospital.approvals.propose(study)
    refused(Code.WAITING_APPROVAL, lambda: hospital.debit(study, 1, 1))
    hospital.approvals.reject(study)
    refused(Code.REFUSED_STUDY, lambda: hospital.debit(study, 1, 1))
    hospital.approvals.approve(study)
    hospital.debit(study, 1, 1)
    hospital.approvals.revoke(study)
    refused(Code.REVOKED, lambda: hospital.debit(study, 1, 2))
    refused(Code.REVOKED, lambda: hospital.ledger.admit(study.digest))
    hospital.approvals.approve(study)
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 1, 1))
    hospital.debit(study, 1, 2)
    hospital.approvals.close(study, "finished")
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 1, 3))
    refused(Code.USAGE, lambda: hospital.approvals.approve(study))


@pytest.mark.parametrize(
    ("round_", "attempt", "train", "evaluate", "code"),
    [
        (0, 3, True, False, Code.REFUSED_STUDY),
        (-1, 3, True, False, Code.REFUSED_STUDY),
        (3, 0, True, False, Code.REFUSED_STUDY),
        (3, -1, True, False, Code.REFUSED_STUDY),
        (3, 2, True, False, Code.REFUSED_REPLAY),
        (3, 26, True, False, Code.ATTEMPTS_SPENT),
        (21, 3, True, False, Code.REFUSED_STUDY),
        (21, 3, True, True, Code.REFUSED_STUDY),
        (22, 3, False, True, Code.REFUSED_STUDY),
        (3, 3, True, True, Code.REFUSED_STUDY),
        (3, 3, False, False, Code.REFUSED_STUDY),
    ],
)
def test_what_the_study_does_not_say_is_refused(
    hospital: Hospital, round_: int, attempt: int, train: bool, evaluate: bool, code: Code
) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    hospital.debit(study, 2, 2)
    before = rows(hospital)
    refused(
        code,
        lambda: hospital.ledger.debit(study, round_, attempt, train=train, evaluate=evaluate),
    )
    assert rows(hospital) == before


def test_spare_attempts_do_not_pay_for_more_evaluations_than_planned(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    for attempt in range(1, 9):
        hospital.ledger.debit(study, 6, attempt, train=False, evaluate=True)
    refused(
        Code.REFUSED_BUDGET,
        lambda: hospital.ledger.debit(study, 6, 9, train=True, evaluate=True),
    )
    assert len(rows(hospital)) == 8, "a refused attempt debits none of its parts"


_orders = st.lists(
    st.tuples(
        st.integers(-1, 24), st.integers(-1, 28), st.booleans(), st.booleans(), st.integers(1, 2)
    ),
    max_size=40,
)


@settings(max_examples=25, deadline=None)
@given(_orders)
def test_no_order_of_messages_overspends_or_repeats(
    order: list[tuple[int, int, bool, bool, int]],
) -> None:
    """No attempt counts twice, and each is charged. An earlier round under a later attempt is a
    coordinator's that was put back from a backup."""
    with tempfile.TemporaryDirectory() as folder:
        hospital = Hospital.found(Path(folder) / "state")
        studies = {n: hospital.accept(numbered(n)) for n in (1, 2)}
        last, charged = {1: 0, 2: 0}, {studies[1].digest: 0, studies[2].digest: 0}
        for round_, attempt, train, evaluate, which in order:
            try:
                hospital.ledger.debit(
                    studies[which], round_, attempt, train=train, evaluate=evaluate
                )
            except WardroundError:
                continue
            assert attempt > last[which]
            assert 1 <= round_ <= studies[which].optimisation.rounds + 1
            last[which] = attempt
            charged[studies[which].digest] += 1
        with hospital.state.reading() as db:
            rows = db.execute("SELECT study, COUNT(DISTINCT attempt) FROM debits GROUP BY study")
            assert dict(rows.fetchall()) == {s: times for s, times in charged.items() if times}
        account = budget(hospital.state, hospital.ledger.policy)
        assert account.cap is not None
        assert account.spent <= account.reserved <= account.cap
        for shown in spending_by_study(hospital.state, hospital.ledger.policy):
            assert shown.epsilon <= shown.planned_epsilon
        hospital.audit.verify()
        hospital.state.close()


# Caps


def test_a_study_above_its_cap_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    study = numbered(1)
    for rule in ("epsilon_per_study", "epsilon_lifetime"):
        caps = {"epsilon_per_study": 1.0, "epsilon_lifetime": 1.0} | {rule: 1.0}
        hospital = Hospital.found(tmp_path / rule, policy(**caps))
        assert hospital.approvals.propose(study) == ("refused", Code.REFUSED_BUDGET)
        refused(Code.REFUSED_BUDGET, partial(hospital.approvals.approve, study))
        assert hospital.approvals.studies()[0].code == Code.REFUSED_BUDGET


def test_the_lifetime_cap_counts_every_study_ever(hospital: Hospital) -> None:
    accepted = []
    for number in range(20):
        study = numbered(number)
        state, code = hospital.approvals.propose(study)
        if state == "refused":
            assert code == Code.REFUSED_BUDGET
            break
        hospital.approvals.approve(study)
        for attempt in range(1, 26):
            round_ = min(attempt, 20)
            hospital.ledger.debit(study, round_, attempt, train=True, evaluate=False)
        hospital.approvals.close(study, "finished")
        accepted.append(study)
    assert 2 <= len(accepted) < 19
    trained = Event("gaussian", 2.0, 0.2, count=25 * len(accepted), band=(0.0, 0.7))
    assert spent(hospital) == pytest.approx(epsilon_over_bands([trained], 1e-5))
    assert spent(hospital) <= 5.0
    more = [*planned_events(numbered(99)), trained]
    assert epsilon_over_bands(more, 1e-5) > 5.0


def test_studies_that_run_at_once_stay_within_the_lifetimes_cap_together(
    hospital: Hospital,
) -> None:
    """Each would be within it alone, and none has spent anything yet."""
    states = []
    for number in range(8):
        states.append(hospital.approvals.propose(numbered(number))[0])
        if states[-1] == "waiting":
            hospital.approvals.approve(numbered(number))
    assert (states[0], states[-1]) == ("waiting", "refused")
    account = budget(hospital.state, hospital.ledger.policy)
    assert account.spent == 0 < account.reserved <= 5.0


def test_the_caps_hold_at_the_sites_delta_not_the_studys(tmp_path: Path) -> None:
    study = numbered(1, privacy__delta=1e-9, privacy__epsilon=9.0)
    lax = Hospital.found(tmp_path / "lax", policy(delta=1e-3))
    strict = Hospital.found(tmp_path / "strict", policy(delta=1e-8))
    assert lax.approvals.propose(study)[0] == "waiting"
    assert strict.approvals.propose(study) == ("refused", Code.REFUSED_BUDGET)


def test_a_study_weak_without_secure_aggregation_is_refused(tmp_path: Path) -> None:
    shared = numbered(1, privacy__mode="distributed")
    hospital = Hospital.found(tmp_path / "state", policy(epsilon_broken=4.0))
    assert hospital.approvals.propose(shared) == ("refused", Code.REFUSED_BUDGET)
    assert "epsilon_broken" in hospital.approvals.studies()[0].reason
    hospital = hospital.again(policy(epsilon_broken=5.0))
    assert hospital.approvals.propose(shared) == ("waiting", None)


def test_without_masks_the_ledger_charges_what_one_share_reveals(tmp_path: Path) -> None:
    rules = policy(unmasked=True, epsilon_per_study=5.0)
    costs = {}
    for masked in (True, False):
        hospital = Hospital.found(tmp_path / str(masked), rules)
        study = numbered(
            1, privacy__mode="distributed", privacy__epsilon=6.0, aggregation__masked=masked
        )
        hospital.accept(study)
        hospital.debit(study, 1, 1)
        costs[masked] = spent(hospital)
    assert costs[False] > 1.3 * costs[True]


def test_a_closed_study_makes_room_for_what_it_did_not_use(hospital: Hospital) -> None:
    number, last = 0, None
    while hospital.approvals.propose(numbered(number))[0] == "waiting":
        last = numbered(number)
        hospital.approvals.approve(last)
        number += 1
    assert last is not None
    waits = numbered(number)
    assert hospital.approvals.propose(waits)[0] == "refused"
    hospital.approvals.close(last, "cancelled")
    assert hospital.approvals.propose(waits)[0] == "waiting"
    hospital.approvals.approve(waits)


# Until when a plan is reserved

DAY = timedelta(days=1)


def reserved(hospital: Hospital) -> float:
    return budget(hospital.state, hospital.ledger.policy).reserved


@pytest.mark.parametrize("outcome", ["paused", "failed"])
def test_what_rests_keeps_its_plan_until_the_day_that_it_states(
    hospital: Hospital, outcome: Ending
) -> None:
    study = hospital.accept(numbered(1, expires="2026-03-04"))
    hospital.debit(study, 1, 1)
    whole, debited = reserved(hospital), spent(hospital)
    hospital.approvals.close(study, outcome)
    hospital.clock.now += 2 * DAY
    assert reserved(hospital) == whole
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 1, 2))
    hospital.clock.now += DAY
    assert reserved(hospital) == debited
    hospital.clock.now -= 1.5 * DAY
    assert hospital.approvals.propose(study) == ("accepted", None), "reserved, so without a check"
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 1, 1))
    hospital.debit(study, 1, 2)
    assert reserved(hospital) == whole
    hospital.audit.verify()


def test_a_lapsed_plan_is_reserved_again_within_the_caps_or_not_at_all(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1, expires="2026-03-02"))
    hospital.debit(study, 1, 1)
    hospital.clock.now += DAY
    number = 2
    while hospital.approvals.propose(numbered(number))[0] == "waiting":
        hospital.approvals.approve(last := numbered(number))
        number += 1
    before = spent(hospital)
    refused(Code.REFUSED_BUDGET, lambda: hospital.debit(study, 1, 2))
    assert hospital.approvals.propose(study) == ("refused", Code.REFUSED_BUDGET)
    hospital.clock.now -= DAY / 2  # no clock brings it back: others were accepted without it
    hospital.clock.now += timedelta(minutes=1)
    assert hospital.approvals.propose(study) == ("refused", Code.REFUSED_BUDGET)
    assert spent(hospital) == before
    hospital.clock.now += DAY / 2
    hospital.approvals.close(last, "cancelled")
    assert hospital.approvals.propose(study) == ("accepted", None)
    hospital.debit(study, 1, 2)
    hospital.audit.verify()


def test_without_a_day_what_fails_is_released_and_may_go_on(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    whole = reserved(hospital)
    hospital.approvals.close(study, "failed")
    assert reserved(hospital) == spent(hospital)
    assert hospital.approvals.propose(study) == ("accepted", None)
    assert reserved(hospital) == whole
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 1, 1))
    hospital.debit(study, 1, 2)


def test_a_study_that_nobody_approved_is_not_accepted_by_failing(hospital: Hospital) -> None:
    study = numbered(1)
    hospital.approvals.propose(study)
    for outcome in ("failed", "paused"):
        hospital.approvals.close(study, outcome)
        assert hospital.approvals.propose(study) == ("waiting", None)
    hospital.approvals.close(study, "cancelled")
    assert hospital.approvals.propose(study) == ("refused", Code.REFUSED_REPLAY)


def test_what_rests_is_charged_in_full_by_an_older_copy(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.approvals.close(study, "failed")
    hospital.state.backup(copy := hospital.folder.parent / "copy.sqlite")
    hospital.approvals.propose(study)
    hospital.debit(study, 1, 1)
    whole = reserved(hospital)
    hospital.state.close()
    for name in ("state.sqlite-wal", "state.sqlite-shm"):
        (hospital.folder / name).unlink(missing_ok=True)
    shutil.copy(copy, hospital.folder / "state.sqlite")
    hospital = Hospital.enter(
        hospital.folder, hospital.identity, hospital.ledger.policy, clock=hospital.clock
    )
    assert hospital.ledger.acknowledge() == (study.title,)
    assert spent(hospital) == pytest.approx(whole)


def test_tightened_rules_stop_a_running_study(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    hospital = hospital.again(policy(epsilon_per_study=1.0))
    refused(Code.REFUSED_POLICY, lambda: hospital.debit(study, 2, 2))
    assert hospital.approvals.recheck() == (study.title,)
    refused(Code.REVOKED, lambda: hospital.debit(study, 2, 2))
    hospital = hospital.again(policy(epsilon_per_study=4.0))
    hospital.approvals.approve(study)
    hospital.debit(study, 2, 2)


def test_rules_that_still_allow_it_let_a_study_go_on(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital = hospital.again(policy(threads=1))
    assert hospital.approvals.recheck() == ()
    hospital.debit(study, 1, 1)


def test_outside_the_hours_nothing_is_debited(tmp_path: Path) -> None:
    rules = policy(hours=[{"from": "19:00", "to": "06:00"}], time_zone="UTC")
    hospital = Hospital.found(tmp_path / "state", rules)
    study = hospital.accept(numbered(1))
    refused(Code.OUTSIDE_HOURS, lambda: hospital.debit(study, 1, 1))
    refused(Code.OUTSIDE_HOURS, lambda: hospital.ledger.admit(study.digest))
    hospital.clock.now += timedelta(hours=12)
    hospital.debit(study, 1, 1)


# Power cuts, processes, disks


@contextmanager
def dying_at(place: int, log: list[str] | None = None) -> Iterator[None]:
    """Kills this process at the `place`-th call into C or return from it."""
    count = 0

    def watch(_: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("c_call", "c_return"):
            name = getattr(argument, "__qualname__", "")
            if not any(part in name for part in ("execute", "sync", "replace", "write", "open")):
                return
            count += 1
            if log is not None:
                log.append(f"{event} {name}")
            if count == place:
                die()

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.slow
def test_killed_at_any_point_of_a_debit_nothing_is_under_counted(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    hospital.state.close()
    template, copy = hospital.folder, hospital.folder.parent / "copy"
    outcomes, place = [], 0
    while True:
        place += 1
        shutil.copytree(template, copy)

        def work(said: int, place: int = place) -> None:
            child = Hospital.enter(copy, hospital.identity, daemon=True)
            with dying_at(place):
                child.debit(study, 6, 2)
                os.write(said, b"debited")

        killed, said = in_child(work)
        survivor = Hospital.enter(copy, hospital.identity, daemon=True)
        survivor.audit.verify()
        charged = [row for row in rows(survivor) if row[1] == 2]
        assert len(charged) in (0, 2), "both parts of an attempt or none"
        assert charged or said != b"debited", "debit returned and is not in the ledger"
        if charged:
            refused(Code.REFUSED_REPLAY, partial(survivor.debit, study, 6, 2))
        survivor.debit(study, 6, 3)
        survivor.audit.verify()
        survivor.state.close()
        shutil.rmtree(copy)
        if not killed:
            assert said == b"debited", said
            break
        outcomes.append(bool(charged))
    assert len(outcomes) >= 20
    assert set(outcomes) == {False, True}, "cuts before and after the commit"
    assert outcomes == sorted(outcomes), "one point in time at which it is spent"


def test_killed_again_and_again_while_debiting(hospital: Hospital) -> None:
    study = hospital.accept(
        numbered(
            1,
            optimisation__rounds=2000,
            aggregation__attempts=2001,
            privacy__noise_multiplier=40.0,
            evaluation__every=0,
        )
    )
    hospital.state.close()
    reported = 0
    for cut in range(12):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            try:
                site = Hospital.enter(hospital.folder, hospital.identity, daemon=True)
                with site.state.reading() as db:
                    attempt = db.execute("SELECT attempt FROM studies").fetchone()[0]
                while True:
                    attempt += 1
                    site.debit(study, attempt, attempt)
                    os.write(write, attempt.to_bytes(4))
            finally:
                os._exit(1)
        os.close(write)
        with os.fdopen(read, "rb") as file:
            said = file.read(4 * (1 + cut % 3))  # so many are reported, whatever the machine does
            time.sleep(0.0007 * cut)  # somewhere in the next ones
            os.kill(child, signal.SIGKILL)
            said += file.read()
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        if said:
            reported = int.from_bytes(said[-4:])
        survivor = Hospital.enter(hospital.folder, hospital.identity, daemon=True)
        survivor.audit.verify()
        durable = max((row[1] for row in rows(survivor)), default=0)
        assert reported <= durable <= reported + 1
        reported = durable
        survivor.state.close()
    assert reported > 12


def test_two_processes_never_debit_one_attempt_twice(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.state.close()

    def race() -> list[int]:
        site = Hospital.enter(hospital.folder, hospital.identity)
        won = []
        for attempt in range(1, 21):
            try:
                site.ledger.debit(study, attempt, attempt, train=True, evaluate=False)
                won.append(attempt)
            except WardroundError as error:
                if error.code != Code.REFUSED_REPLAY:
                    raise
        return won

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, bytes(race()))
        finally:
            os._exit(0)
    mine = race()
    os.close(write)
    with os.fdopen(read, "rb") as file:
        theirs = list(file.read())
    os.waitpid(child, 0)
    assert not set(mine) & set(theirs)
    survivor = Hospital.enter(hospital.folder, hospital.identity, daemon=True)
    assert sorted(row[1] for row in rows(survivor)) == sorted(mine + theirs)
    survivor.audit.verify()


def test_two_processes_never_accept_more_than_fits(hospital: Hospital) -> None:
    fits = 0
    while hospital.approvals.propose(numbered(fits))[0] == "waiting":
        hospital.approvals.approve(numbered(fits))
        fits += 1
    hospital.approvals.revoke(numbered(0))
    rivals = [numbered(100), numbered(101)]
    for study in rivals:
        assert hospital.approvals.propose(study)[0] == "waiting"
    hospital.state.close()

    def approve(study: Study) -> bytes:
        site = Hospital.enter(hospital.folder, hospital.identity)
        try:
            site.approvals.approve(study)
        except WardroundError as error:
            return error.code.value.encode()
        return b"accepted"

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, approve(rivals[0]))
        finally:
            os._exit(0)
    mine = approve(rivals[1])
    os.close(write)
    with os.fdopen(read, "rb") as file:
        theirs = file.read()
    os.waitpid(child, 0)
    assert sorted([mine, theirs]) == [b"accepted", Code.REFUSED_BUDGET.value.encode()]


def test_a_full_disk_refuses_and_what_was_spent_stays(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    before = spent(hospital)
    hospital.state.close()

    def work(said: int) -> None:
        site = Hospital.enter(hospital.folder, hospital.identity, daemon=True)
        size = max(path.stat().st_size for path in site.folder.iterdir())
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        for attempt in range(2, 20):
            try:
                site.debit(study, attempt, attempt)
            except WardroundError as error:
                os.write(said, f"{attempt} {error.code}".encode())
                return

    killed, said = in_child(work)
    assert not killed
    attempt, code = said.split()
    assert code == b"ledger"
    survivor = Hospital.enter(hospital.folder, hospital.identity, daemon=True)
    survivor.audit.verify()
    assert spent(survivor) >= before
    assert max(row[1] for row in rows(survivor)) == int(attempt) - 1
    survivor.debit(study, 20, 20)


@pytest.mark.parametrize("mode", [0o500, 0o700])
def test_a_read_only_ledger_refuses(mode: int) -> None:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o711)
        hospital = Hospital.found(Path(parent) / "state")
        study = hospital.accept(numbered(1))
        hospital.debit(study, 1, 1)
        hospital.state.close()
        for path in hospital.folder.iterdir():
            path.chmod(0o400)
        hospital.folder.chmod(mode)
        if os.geteuid() == 0:
            for path in (hospital.folder, *hospital.folder.iterdir()):
                os.chown(path, 65534, 65534)

        def work(said: int) -> None:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            try:
                Hospital.enter(hospital.folder, hospital.identity, daemon=True).debit(study, 2, 2)
            except WardroundError as error:
                os.write(said, error.code.value.encode())

        assert in_child(work) == (0, b"ledger")


# Copies


def test_an_older_copy_charges_every_open_study_in_full(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    hospital.state.close()
    old = hospital.folder.parent / "old.sqlite"
    shutil.copy(hospital.folder / "state.sqlite", old)
    hospital = Hospital.enter(hospital.folder, hospital.identity, clock=hospital.clock)
    unknown = hospital.accept(numbered(2))
    hospital.debit(study, 2, 2)
    hospital.debit(unknown, 1, 1)
    hospital.state.close()
    shutil.copy(old, hospital.folder / "state.sqlite")
    hospital = Hospital.enter(hospital.folder, hospital.identity, clock=hospital.clock)
    refused(Code.LEDGER, lambda: hospital.debit(study, 2, 2))
    assert hospital.ledger.acknowledge([unknown]) == (unknown.title, study.title)
    account = budget(hospital.state, hospital.ledger.policy)
    of_each = spending_by_study(hospital.state, hospital.ledger.policy)
    assert [shown.trained for shown in of_each] == [(25, 25), (25, 25)]
    known = [replace(event, names="one view") for event in planned_events(study)]
    both = [*known, *(replace(event, names="") for event in planned_events(unknown))]
    assert account.spent == pytest.approx(epsilon_over_bands(both, 1e-5))
    refused(Code.REVOKED, lambda: hospital.debit(study, 2, 3))
    hospital.approvals.approve(study)
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 2, 3))
    hospital.audit.verify()
    assert hospital.ledger.acknowledge() == ()


def test_a_message_signed_here_that_the_ledger_lacks_stops_everything(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    hospital.debit(study, 1, 1)
    hospital.ledger.witness(study.digest, 1)
    hospital.debit(study, 2, 2)
    refused(Code.LEDGER, lambda: hospital.ledger.witness(study.digest, 3))
    refused(Code.LEDGER, lambda: hospital.debit(study, 3, 3))
    hospital = hospital.again()
    refused(Code.LEDGER, lambda: hospital.debit(study, 3, 3))
    assert hospital.ledger.acknowledge() == (study.title,)
    refused(Code.LEDGER, lambda: hospital.ledger.witness("e" * 64, 1))


# Among whom a sum is


def test_a_round_has_only_so_many_sets_of_sites_over_restarts_too(hospital: Hospital) -> None:
    study, most = hospital.accept(numbered(1)), hospital.ledger.policy.participant_sets
    for k in range(most):
        hospital.ledger.take_part(study.digest, 1, ["north", "south", f"site{k}"])
    hospital = hospital.again(daemon=True)
    another = ["north", "south", "site99"]
    for _ in range(2):
        error = refused(
            Code.REFUSED_POLICY, lambda: hospital.ledger.take_part(study.digest, 1, another)
        )
        assert error.rule == "participant_sets"
    hospital.ledger.take_part(study.digest, 1, ["site0", "south", "north"])
    hospital.ledger.take_part(study.digest, 2, another)


def test_an_earlier_round_is_answered_under_a_higher_attempt_and_charged(
    hospital: Hospital,
) -> None:
    """A coordinator that was put back from a backup repeats rounds: both are in epsilon."""
    study = hospital.accept(numbered(1))
    assert hospital.ledger.last_attempt(study.digest) == 0
    hospital.debit(study, 1, 1)
    hospital.debit(study, 2, 2)
    assert hospital.ledger.last_attempt(study.digest) == 2
    refused(Code.REFUSED_REPLAY, lambda: hospital.debit(study, 1, 2))
    hospital.debit(study, 1, 3)
    assert hospital.ledger.last_attempt(study.digest) == 3
    spent = hospital.ledger.state
    with spent.reading() as db:
        (trained,) = db.execute("SELECT debited FROM plans WHERE part = 'train'").fetchone()
    assert trained == 3


def test_the_sets_of_a_round_are_counted_also_when_it_comes_again(hospital: Hospital) -> None:
    study, most = hospital.accept(numbered(1)), hospital.ledger.policy.participant_sets
    for k in range(most):
        hospital.ledger.take_part(study.digest, 1, ["north", f"site{k}"])
    hospital.ledger.take_part(study.digest, 2, ["north", "site0"])
    refused(
        Code.REFUSED_POLICY, lambda: hospital.ledger.take_part(study.digest, 1, ["north", "other"])
    )
