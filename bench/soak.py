"""A federation that runs study after study: in quiet, and under faults of every kind.

    python bench/soak.py [--minutes 5] [--studies 60] [--seed 0]

A coordinator, four sites and MLflow, processes of their own. First quiet studies, for the memory of
each process and for the weights that each study should have: in mode none they are the same to the
bit whenever a study is run. Then the same studies under other titles, and one in mode distributed
after each, for the given time, while faults come one after another (bench/support/faults.py). A
process that ends by itself is not started again, except as its unit would; nobody resumes anything.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from mlflow import MlflowClient

from client.config.site_config import SiteConfig
from client.enrolment import new_site
from client.governance.audit import Audit
from client.governance.database import SiteState
from launch.demo.mlflow_server import MlflowServer
from protocol.errors import WardroundError
from support.deployment import COORDINATOR, tails
from support.faults import Faults, FaultyDeployment
from support.figure import figure, load
from support.studies import Studies
from tasks import registry

TASK = "breast_cancer"
ROUNDS = 40
KINDS = 2
"""Different studies of mode none."""
WARM, GROWTH = 10, 20.0
"""Quiet studies before memory is measured, and MB that it may grow by to the last."""
PRIVATE = ("privacy=distributed", "privacy.epsilon=20", "privacy.delta=1e-3")
SPARE = 40
"""Attempts that faults may cost a study."""
SETTLED = 120.0
"""Seconds within which MLflow has everything once it is there again."""


def plain(studies: Studies, title: str, number: int) -> str | None:
    """A study of mode none: its weights' digest, or None where it did not finish."""
    return studies.run(title, "privacy=none", f"seed={number % KINDS}")


def resident(deployment: FaultyDeployment) -> dict[str, float]:
    """Process -> MB."""
    found = {}
    for name in (*deployment.sites, COORDINATOR):
        text = Path(f"/proc/{deployment.program(name)}/status").read_text()
        found[name] = int(text.split("VmRSS:")[1].split()[0]) / 1024
    return found


def books_not_whole(deployment: FaultyDeployment) -> list[str]:
    """The sites whose ledger or audit log is not."""
    broken = []
    for site in deployment.sites:
        config = SiteConfig.load(deployment.folder / site / new_site.SITE_YAML)
        identity = config.load_identity()
        state = SiteState.open(config.state, site, identity.public_key.hex())
        with ExitStack() as stack:
            stack.callback(state.close)
            try:
                Audit(state, site, identity).verify()
            except WardroundError as error:
                broken.append(f"{site}: {error.message}")
    return broken


def open_runs(url: str) -> int:
    """How many runs MLflow shows as running, once it has had time to settle."""
    client, deadline = MlflowClient(url), time.monotonic() + SETTLED
    while True:
        experiments = [one.experiment_id for one in client.search_experiments()]
        found = client.search_runs(experiments, "attributes.status = 'RUNNING'")
        if not found or time.monotonic() > deadline:
            return len(found)
        time.sleep(1)


def quiet(deployment: FaultyDeployment, studies: Studies, count: int) -> tuple[list[str], bool]:
    """The weights of each kind of study, and whether memory stays."""
    expected, before = list[str](), dict[str, float]()
    for number in range(max(count, KINDS)):
        weights = plain(studies, f"Soak {number}", number)
        if weights is None:
            raise RuntimeError(f"{studies.unfinished}\n{tails(deployment.folder)}")
        expected = expected if len(expected) == KINDS else [*expected, weights]
        if weights != expected[number % KINDS]:
            raise RuntimeError("Studies of mode none are not repeatable.")
        if number + 1 == WARM:
            before = resident(deployment)
        print(f"\r{number + 1} quiet studies", end="", file=sys.stderr)
    print(file=sys.stderr)
    if count <= WARM:
        return expected, True
    after = resident(deployment)
    grown = {name: round(after[name] - before[name], 1) for name in before}
    return expected, figure(
        f"soak: memory grown from study {WARM} to {count}", max(grown.values()), "MB", GROWTH,
        coordinator=grown[COORDINATOR], sites=str([grown[s] for s in deployment.sites]),
    )  # fmt: skip


def under_faults(
    deployment: FaultyDeployment, mlflow: MlflowServer, studies: Studies, expected: list[str],
    arguments: argparse.Namespace,
) -> bool:  # fmt: skip
    began, studies.made, wrong = time.monotonic(), 0, 0
    with Faults(deployment, mlflow, arguments.seed, 60 * arguments.minutes) as faults:
        while time.monotonic() < began + 60 * arguments.minutes:
            number = 1000 + studies.made
            found = plain(studies, f"Soak {number}", number)
            wrong += found not in (None, expected[number % KINDS])
            studies.run(f"Soak {number}", *PRIVATE)
    minutes = (time.monotonic() - began) / 60
    wrong += plain(studies, "Soak at the end", 0) not in (None, expected[0])
    hands = [*faults.broken]
    hands += [
        f"{n} had ended" for n in (*deployment.sites, COORDINATOR) if not deployment.running(n)
    ]
    broken = books_not_whole(deployment)
    for line in (*studies.unfinished, *hands, *broken):
        print(line, file=sys.stderr)
    return all(
        [
            figure("soak: faults", faults.made.total(), "", arguments.minutes * 10 / 3, least=True,
                   minutes=round(minutes, 1), load=load(), **Counter(faults.made)),
            figure("soak: wrong sums", wrong, "studies", 0, studies=studies.made),
            figure("soak: lost studies", len(studies.unfinished), "", 0),
            figure("soak: manual actions", len(hands), "", 0),
            figure("soak: ledgers or logs that are not whole", len(broken), "sites", 0),
            figure("soak: runs that stay open in MLflow", open_runs(mlflow.url), "", 0),
        ]
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults")
    parser.add_argument("--studies", type=int, default=60, help="quiet ones")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--keep", type=Path, help="a new folder for all files, which stay")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True, mode=0o700)
        mlflow = stack.enter_context(MlflowServer(folder / "mlflow"))
        task = registry.load(TASK)
        deployment = stack.enter_context(
            FaultyDeployment(folder / "federation", task, {}, mlflow.url)
        )
        studies = Studies(deployment, f"rounds={ROUNDS}", f"aggregation.spare_attempts={SPARE}")
        expected, holds = quiet(deployment, studies, arguments.studies)
        holds &= under_faults(deployment, mlflow, studies, expected, arguments)
    return 0 if holds else 1


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
