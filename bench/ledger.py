"""The ledger with a thousand different studies in it: processor seconds of one more proposal, of
the budget (and so of /metrics), in a process that composed the past and in one that finds it kept.

    python bench/ledger.py [--studies 1000]

Every study differs in its noise, so that no two of its events are alike; four of five are closed
with what they debited, the others are open.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.governance.budget import budget, spending_by_study
from client.governance.ledger_rows import count_acceptance, record, write_plan
from protocol.identity import Identity
from protocol.study.study import Study
from support.figure import figure, load
from tests.client.hospital import Hospital, in_child, numbered, policy

PROPOSAL, BUDGET = 2.0, 1.0
"""Processor seconds, at most, of one more proposal and of a budget."""
_ONCE = {"budget at the start": 180.0, "what each study spent": 180.0}
"""The same where nothing is kept yet, and everything is composed once."""
_RULES = {"epsilon_per_study": 10.0, "epsilon_lifetime": 1000.0, "approval": "rule"}


def a_study(number: int) -> Study:
    """A study that no other is like."""
    return numbered(
        number,
        privacy__noise_multiplier=20 + 0.01 * number,
        privacy__epsilon=1.0,
        evaluation__noise_multiplier=500 + 0.1 * number,
    )


def filled(folder: Path, studies: int) -> Identity:
    """A ledger with this many studies, written as acceptances and debits would leave it."""
    hospital = Hospital.found(folder, policy(**_RULES))
    with hospital.state.transaction() as db:
        for number in range(studies):
            study, now = a_study(number), hospital.clock().isoformat()
            open_ = number % 5 == 0
            record(db, study, "accepted" if open_ else "finished", now)
            write_plan(db, study, public=False)
            db.execute(
                "UPDATE plans SET debited = MIN(planned, 3) WHERE study = ?", (study.digest,)
            )
            db.execute(
                "INSERT INTO debits SELECT study, 1, part, 1, debited, ? FROM plans"
                " WHERE study = ?",
                (now, study.digest),
            )
        count_acceptance(db)
    hospital.state.close()
    return hospital.identity


def seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measured(folder: Path, identity: Identity, number: int) -> dict[str, float]:
    """What -> processor seconds."""
    hospital = Hospital.enter(folder, identity, policy(**_RULES))
    state, rules, wanted = hospital.state, hospital.ledger.policy, a_study(number)
    found = {"budget at the start": seconds(lambda: budget(state, rules))}
    found["one more proposal"] = seconds(lambda: hospital.approvals.propose(wanted))
    found["budget after it"] = seconds(lambda: budget(state, rules))
    hospital.debit(wanted, 1, 1)
    found["budget after a debit"] = seconds(lambda: budget(state, rules))
    found["what each study spent"] = seconds(lambda: spending_by_study(state, rules))
    state.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    held = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "state"
        identity = filled(folder, studies)
        for number, process in enumerate(("composes the past", "finds it kept"), start=studies):

            def work(descriptor: int, number: int = number) -> None:
                found = measured(folder, identity, number)
                os.write(descriptor, json.dumps(found).encode())

            _, said = in_child(work)
            found = json.loads(said)
            for what, value in found.items():
                if process == "composes the past" and what in _ONCE:
                    bar = _ONCE[what]
                else:
                    bar = PROPOSAL if what == "one more proposal" else BUDGET
                name = f"{what}, {studies} studies, a process that {process}"
                held.append(figure(name, value, "s of CPU", bar, load=load()))
        size = sum(file.stat().st_size for file in folder.glob("composed.sqlite*")) / 2**20
        held.append(figure("what is kept", size, "MiB", 256.0))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
