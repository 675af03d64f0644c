"""A coordinator under fire from strangers, beside a study that is running.

    python bench/besieged.py [--minutes 3]

Four hospitals of the breast cancer task over TLS, every party a process of its own. First three
studies in peace, for their weights (in mode none they are the same to the bit whenever a study is
run). Then the same three under another title, and others until the time is over, while strangers of
nine kinds flood the coordinator's port with connections, slow and broken requests, guessed tokens,
unsigned messages and studies that are none (bench/support/strangers.py), and somebody honest asks a
question a second. One JSON line a figure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from launch.demo.consortium import CREDENTIALS
from server.enrolment.accounts import Accounts, Credentials
from support.deployment import Deployment
from support.figure import figure, load
from support.strangers import Caller, Strangers
from support.studies import Studies
from tasks import registry

TASK = "breast_cancer"
ROUNDS = 20
COMPARED = 3


def measure(folder: Path, minutes: float) -> bool:
    task = registry.load(TASK)
    with Deployment(folder / "federation", task, {}) as besieged:
        mallory = Accounts(besieged.coordinator.accounts).add("mallory")
        own = Credentials.load(besieged.folder / CREDENTIALS)
        account = own.model_copy(update={"account": "mallory", "token": mallory})
        studies = Studies(besieged, "tracking=off", "privacy=none", f"rounds={ROUNDS}")
        expected = [studies.run("peace", f"seed={number}") for number in range(COMPARED)]
        found: list[str | None] = []
        until = time.monotonic() + 60 * minutes
        with (
            Strangers(account, seed=0) as strangers,
            Caller(besieged.folder / CREDENTIALS) as caller,
        ):
            while time.monotonic() < until or len(found) < COMPARED:
                found.append(studies.run("siege", f"seed={len(found)}"))
                told = f"{len(found)} studies, {strangers.sent.total()} hostile calls"
                print(f"\r{told:78}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        alive = besieged.alive()
    calls = strangers.sent.total()
    wrong = sum(weights is None for weights in found)
    differ = sum(a != b for a, b in zip(expected, found, strict=False))
    return all(
        [
            figure("studies_that_did_not_finish", wrong, "", 0, studies=len(found), calls=calls),
            figure("weights_that_differ_from_those_in_peace", differ, "", 0, compared=COMPARED),
            figure("attempts_lost", studies.attempts_lost, "", 0),
            figure("processes_that_ended", 5 - alive, "of 5", 0),
            figure("strangers_let_in", strangers.let_in.total(), "calls", 0),
            figure("kinds_of_stranger_that_broke", len(strangers.failed), "of 9", 0),
            figure(
                "honest_requests_dropped_twice",
                caller.dropped_twice,
                "",
                0,
                asked=caller.asked,
                dropped_once=caller.dropped,
                slowest_s=round(caller.slowest, 2),
                load=load(),
            ),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder:
        return 0 if measure(Path(folder), arguments.minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
