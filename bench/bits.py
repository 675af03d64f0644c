"""Updates as numbers of few bits: bytes on the wire, speed, and what it costs in test AUC.

    python bench/bits.py                     every figure
    python bench/bits.py --wire              bytes and speed alone
    python bench/bits.py --fewest            the fewest bits of mode distributed alone

Heart disease (FLamby's split) and pneumonia (PneumoniaMNIST, four hospitals), in modes none and
local, at 8 bits a number and at the 32 of before, the same seeds: the mean difference in AUC on all
test patients has to stay within one standard error, that of an AUC on so many patients (Hanley and
McNeil 1982) for the 32 bits.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import heart_disease
import pneumonia
from client.data.cohort import Cohort
from launch.config.compose import load
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.plans.plan_bytes import traffic
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients
from launch.studies.study_builder import build_study
from protocol.errors import WardroundError
from protocol.privacy.accounting import epsilon_over_bands, recommended_scale
from protocol.privacy.calibration import with_noise
from protocol.privacy.randomness import Stream
from protocol.privacy.releases import planned_events
from protocol.privacy.word_size import update_bits_needed
from protocol.secagg.packing import Packing
from protocol.study.quantiser import rotated, rotated_back, round_randomly
from protocol.study.study import Evaluation, Study
from server.rounds.listener import Listeners
from support.figure import figure
from support.flamby_heart import hospitals
from support.held_out import scored
from tasks import registry
from tasks.base import Task
from tasks.schema import SPLIT, Table

BITS = 8
SEEDS = range(5)
PARAMETERS = 11_000_000
SITES = 4
MOST_RISE = 0.02
_HEART = ("evaluation=off", "evaluation.split=column", "tracking=off")
STUDIES = {
    "heart_disease_none": ("experiment=heart_disease_none", *_HEART),
    "heart_disease_local": ("experiment=heart_disease_local", *_HEART),
    "pneumonia_none_cnn": pneumonia.CNN,
    "pneumonia_local_eps8": pneumonia.overrides("local", 8),
}
RANGES = (1e-1, 1e-2, 1e-3, 1e-4)
"""Of a network without privacy, whose gradients are far below the clip norm that the range is
planned from: one is chosen on a fifth of the training patients, who are kept from training."""
CHOSEN = (pneumonia.CNN,)


def seconds(call: Callable[[], object]) -> float:
    """Processor time, the least of three."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def wire() -> list[bool]:
    """A share of 11 million numbers of 8 bits, of four sites."""
    packing = Packing(PARAMETERS, BITS + math.ceil(math.log2(SITES)))
    values = np.random.default_rng(0).standard_normal(PARAMETERS).astype(np.float32)
    words = values.view(np.uint32)
    packed = packing.packed(words)
    body = [packed.data]
    megabytes, key, scaled = values.nbytes / 1e6, bytes(32), 40.0 * values.astype(np.float64)
    bar = (BITS + math.ceil(math.log2(SITES))) / 32 + 0.01
    held = [figure("bits_bytes_of_float32", len(packed) / values.nbytes, "ratio", bar)]
    steps: dict[str, tuple[Callable[[], object], float]] = {
        "pack": (lambda: packing.packed(words), 100),
        "unpack": (lambda: list(packing.unpacked(body)), 100),
        "round": (lambda: round_randomly(scaled, Stream().words), 100),
        "rotate": (lambda: rotated(values, key), 20),
        "rotate_back": (lambda: rotated_back(values, key), 20),
    }
    for name, (call, least) in steps.items():
        speed = megabytes / seconds(call)
        held.append(figure(f"bits_{name}", speed, "MB/s of float32, one core", least, least=True))
    return held


def cohorts(task: Task, *, validation: bool = False) -> dict[str, Cohort]:
    """FLamby's split of heart disease; PneumoniaMNIST's own. validation: a fifth of those who train
    are evaluated on instead, and the others who would be take no part."""
    tables: Mapping[str, Table] = task.public_sites(data_root())
    if task.name == "heart_disease":
        tables = {site: found.table for site, found in hospitals(task, data_root()).items()}
    if validation:
        tables = {site: within_training(table) for site, table in tables.items()}
    return cohorts_of(task, tables, Evaluation(release="exact", split="column"))


def within_training(table: Table) -> Table:
    training = table[SPLIT] == "train"
    kept = {name: values[training] for name, values in table.items()}
    fifth = np.random.default_rng(0).random(int(training.sum())) < 1 / 5
    return kept | {SPLIT: np.where(fifth, "evaluation", "train").astype(object)}


def auc(
    words: tuple[str, ...], seed: int, few: tuple[str, ...] = (), *, validation: bool = False
) -> tuple[float, float, int]:
    """One study -> (AUC on all patients kept from training, its standard error, bytes from a site).
    few: of updates of few bits."""
    config = load([*words, *few, f"seed={seed}"])
    task = registry.load(config.task.name, config.task.options)
    found = cohorts(task, validation=validation)
    study = build_study(config, task, declared_patients(found))
    outcome = InProcessFederation(found).run(study, task, Listeners())
    labels, scores = scored(task, outcome.weights, found)
    area = float(roc_auc_score(labels, scores))
    return area, standard_error(area, labels), traffic(study).from_site


def few_bits(words: tuple[str, ...], pool: Executor) -> tuple[str, ...]:
    """The configuration of updates of BITS bits, with the range that does best on the validation
    patients where the planned one does not suit."""
    few = (f"aggregation.update_bits={BITS}",)
    if words not in CHOSEN:
        return few
    each = [(*few, *(f"aggregation.update_range={wide}" for wide in some))
            for some in ((), *((wide,) for wide in RANGES))]  # fmt: skip
    alone = partial(auc, words, SEEDS.stop, validation=True)
    areas = [found[0] for found in pool.map(alone, each)]
    for one, area in zip(each, areas, strict=True):
        print(f"validation AUC {area:.4f}: {' '.join(one)}", file=sys.stderr)
    return each[int(np.argmax(areas))]


def standard_error(area: float, labels: np.ndarray) -> float:
    """Of an AUC on these patients (Hanley and McNeil 1982, equation 1)."""
    ill, well = int(labels.sum()), int((1 - labels).sum())
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    square = area * (1 - area) + (ill - 1) * (q1 - area**2) + (well - 1) * (q2 - area**2)
    return math.sqrt(square / (ill * well))


def accuracy(name: str, words: tuple[str, ...], pool: Executor) -> bool:
    fewer = few_bits(words, pool)
    both = pool.map(partial(auc, words), SEEDS), pool.map(partial(auc, words, few=fewer), SEEDS)
    pairs = list(zip(*both, strict=True))
    plain, few = (np.array([pair[which][0] for pair in pairs]) for which in (0, 1))
    return figure(
        f"bits_auc_lost_{name}",
        float(plain.mean() - few.mean()),
        "AUC of 32 bits less AUC of 8, mean of 5 seeds",
        pairs[0][0][1],
        auc_32=round(float(plain.mean()), 4),
        auc_8=round(float(few.mean()), 4),
        sd_of_difference=round(float((plain - few).std(ddof=1)), 4),
        configuration=" ".join(fewer),
        bytes_ratio=round(pairs[0][1][2] / pairs[0][0][2], 4),
    )


def fewest_bits() -> bool:
    """Mode distributed: the fewest bits at which epsilon, with the same noise, rises by at most 2%
    above that of the scale that is planned without update_bits. A ratio to float32's bytes for a
    model above 1e5 parameters."""
    studies = {"heart_disease_eps1": heart_disease.configuration(1.0, 42)}
    studies["pneumonia_eps3"] = load(list(pneumonia.overrides("distributed", 3)))
    held = []
    for name, config in studies.items():
        task = registry.load(config.task.name, config.task.options)
        study = build_study(config, task, declared_patients(cohorts(task)))
        held.append(fewest(name, study))
        if name == "pneumonia_eps3":
            held.append(fewest("pneumonia_eps3_11m_parameters", large(study)))
    return all(held)


def large(study: Study) -> Study:
    """The same plan for a model of 11 million parameters, whose sums are rounded by site."""
    epsilon = study.privacy.epsilon or math.inf
    scale = recommended_scale(PARAMETERS, rounding="site", epsilon=epsilon, delta=pneumonia.DELTA)
    wide = changed(study, "model", parameters=PARAMETERS)
    wide = changed(wide, "aggregation", rounding="site", scale=scale, word_bits=64)
    return with_noise(wide, epsilon)


def changed(study: Study, section: str, **values: object) -> Study:
    document = study.model_dump()
    document[section] |= values
    return Study.model_validate(document)


def fewest(name: str, study: Study) -> bool:
    def spent(of: Study) -> float:
        return epsilon_over_bands(planned_events(of), of.privacy.delta)

    planned, rise = spent(study), 0.0
    while study.aggregation.scale > 1:
        coarser = changed(study, "aggregation", scale=study.aggregation.scale // 2)
        try:
            more = spent(coarser) / planned - 1
        except WardroundError:  # the noise would be too small for integers
            break
        if more > MOST_RISE:
            break
        study, rise = coarser, more
    words = update_bits_needed(study)
    return figure(
        f"bits_epsilon_rises_{name}",
        rise,
        "relative, same noise",
        MOST_RISE,
        update_bits=words - (len(study.roster) - 1).bit_length(),
        bits_of_a_word=words,
        scale=study.aggregation.scale,
        parameters=study.model.parameters,
        of_float32=round(words / 32, 4),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wire", action="store_true", help="bytes and speed alone")
    parser.add_argument("--fewest", action="store_true", help="mode distributed's bits alone")
    parser.add_argument("--study", choices=STUDIES, help="one study alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="studies at once")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    held = [] if asked.study or asked.fewest else wire()
    if not (asked.wire or asked.fewest):
        chosen = [asked.study] if asked.study else list(STUDIES)
        context = multiprocessing.get_context("spawn")
        one_thread = torch.set_num_threads, (1,)
        with ProcessPoolExecutor(asked.workers, context, *one_thread) as pool:
            held += [accuracy(name, STUDIES[name], pool) for name in chosen]
    if asked.fewest or not (asked.wire or asked.study):
        held.append(fewest_bits())
    return 0 if all(held) else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        sys.exit(main())
    except WardroundError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
