"""What secure aggregation costs: time at a site, bytes on the wire, and on top of a round.

    python bench/secagg.py

One JSON line a figure. Masking is timed on one thread, everything included: checking the Readys,
deriving the keys, adding masks and guards. The round is that of the heart disease study with four
sites in one process, with masks and without, run alternately so that both see the same machine.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from heart_disease import configuration
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.public_data import data_root
from launch.studies.study_builder import build_study
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.privacy.gaussian import gaussian
from protocol.privacy.skellam import skellam
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.context import Context
from protocol.secagg.party import Party
from protocol.study.study import Evaluation, Study
from protocol.wire import messages
from server.enrolment.roster import banded
from server.rounds.listener import Listeners
from support.flamby_heart import SIZES, hospitals
from tasks import registry

PARAMETERS = 11_000_000
ROUNDS = 30
PAIRS = 5


def figure(name: str, value: float, unit: str, bar: float, **more: float) -> bool:
    holds = value <= bar
    line = {"figure": name, "value": round(value, 4), "unit": unit, "bar": bar, "holds": holds}
    print(json.dumps(line | more), flush=True)
    return holds


def seconds(call: Callable[[], object], times: int) -> float:
    """Median of processor time."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def begin(sites: int, attempt: int = 1) -> list[Party]:
    keys = {f"site{number}": Identity.generate() for number in range(sites)}
    roster = tuple((site, key.public_key.hex()) for site, key in keys.items())
    context = Context("0" * 64, "update", 1, attempt, "0" * 64, roster)
    return [Party.begin(context, site, key) for site, key in keys.items()]


def masking() -> bool:
    """Eight sites, 11 million words: one site's share, and the coordinator's folding of one."""
    words = np.arange(PARAMETERS, dtype=np.uint32)
    taken, folded = [], []
    for _ in range(5):
        parties = begin(8)
        readys = [party.ready for party in parties]
        start = time.process_time()
        share = parties[0].share(words, readys, 3)
        taken.append(time.process_time() - start)
        body = messages.chunks(share)
        opening = ShareSum([ready.site for ready in readys], PARAMETERS, 32)
        start = time.process_time()
        opening.fold(readys[0].site, body)
        folded.append(time.process_time() - start)
    ready = messages.Ready(
        study="0" * 64,
        round=1,
        attempt=1,
        site=readys[0].site,
        context=readys[0].context,
        public_key=readys[0].public_key,
        signature=readys[0].signature,
    )
    collect = messages.Collect(study="0" * 64, round=1, attempt=1, readys=(ready,) * 8)
    answer = messages.frame(messages.Share(study="0" * 64, round=1, attempt=1), body)
    wire = answer.size + messages.frame(ready).size + messages.frame(collect).size
    return all(
        [
            figure("masking_11m_words_8_sites", statistics.median(taken), "s, one core", 1.5),
            figure("folding_11m_words", statistics.median(folded), "s, one core", 0.5),
            figure("bytes_over_float32", wire / (4 * PARAMETERS), "ratio, 11M parameters", 1.1),
        ]
    )


def noise() -> bool:
    return all(
        [
            figure("skellam", seconds(lambda: skellam(2.0**36, 10**6), 5), "s per million", 0.8),
            figure("gaussian", seconds(lambda: gaussian(10**6), 5), "s per million", 0.8),
        ]
    )


def rounds() -> bool:
    """The same study with masks and without, alternately."""
    task = registry.load("heart_disease")
    tables = {site: hospital.table for site, hospital in hospitals(task, data_root()).items()}
    cohorts = cohorts_of(task, tables, Evaluation(release="exact", split="column"))
    federation = InProcessFederation(cohorts)
    declared = {site: banded(train) for site, (train, _) in SIZES.items()}

    def study(masked: bool, seed: int) -> Study:
        config = configuration(1.0, seed)
        built = build_study(config, task, declared).model_dump(mode="json")
        built["nonce"] = os.urandom(16).hex()
        built["aggregation"]["masked"] = masked
        built["optimisation"]["rounds"] = ROUNDS
        return Study.model_validate_json(json.dumps(built))

    taken: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(PAIRS + 1):
        for masked in (True, False):
            running = study(masked, seed)
            start = time.perf_counter()
            federation.run(running, task, Listeners())
            if seed > 0:  # the first pair warms up
                taken[masked].append((time.perf_counter() - start) / (ROUNDS + 1))
    plain, masks = (statistics.median(taken[masked]) for masked in (False, True))
    return figure(
        "secure_aggregation_adds",
        masks / plain - 1,
        "of the plain round, heart disease, 4 sites",
        0.6,
        plain_ms=round(1000 * plain, 2),
        masked_ms=round(1000 * masks, 2),
    )


def main() -> int:
    return 0 if all([masking(), noise(), rounds()]) else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        sys.exit(main())
    except WardroundError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
