"""Algorithms in whole studies: by hand where one weight is learned, and what each one promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from client.config.policy import Policy
from client.data.cohort import Cohort
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import SiteContext
from client.training.sampling import Patients
from launch.config import compose
from launch.federations.inprocess import InProcessFederation
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, decode_gradient
from protocol.wire import messages
from protocol.wire.messages import Frame
from server.model.global_model import GlobalModel
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from server.rounds.transport import Fleet
from tasks import registry
from tasks.flat_model import FlatModel
from tasks.models.normalisation import normalisation
from tests.client.quadratic import START, cohort
from tests.narrowing import present

PLAIN = ("privacy=none", "privacy.sampling_rate=1", "local_steps=2", "local_lr=0.1")
SITES = {"a": (1,), "b": (0,), "c": (0, 0)}
"""Labels of the patients who train: weights 1/4, 1/4, 1/2 of the sum."""


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, class_ in (
        ("quadratic", "Quadratic"),
        ("exploding_quadratic", "Exploding"),
        ("normalised", "Normalised"),
        ("exploding_normalised", "ExplodingNormalised"),
    ):
        monkeypatch.setitem(registry.BUILT_IN, name, f"tests.client.quadratic:{class_}")


def planned(*overrides: str, task: str = "quadratic") -> Study:
    config = compose.load(
        [f"task.name={task}", "evaluation.split=column", "tracking=off", *overrides]
    )
    declared = {site: len(labels) for site, labels in SITES.items()}
    return build_study(config, registry.load(task), declared)


def cohorts(task: str = "quadratic") -> dict[str, Cohort]:
    return {
        site: cohort(*labels, task=registry.load(task), width=float("normalised" in task))
        for site, labels in SITES.items()
    }


def run(study: Study, federation: InProcessFederation | None = None) -> Outcome:
    task = registry.load(study.task.name)
    found = federation or InProcessFederation(cohorts(task.name))
    return found.run(study, task, Listeners())


def test_fedavg_by_hand() -> None:
    """McMahan et al. 2017. Round 1 from 0.5: a goes to 0.55, 0.595; b and c to 0.45, 0.405; the
    mean update is (0.095 - 3 * 0.095) / 4 = -0.0475. Round 2 from 0.4525: a by +0.104025, b and c
    by -0.085975, in the mean -0.038475."""
    outcome = run(planned(*PLAIN, "rounds=2"))
    assert outcome.weights == pytest.approx([0.414025], rel=1e-5)


def test_fedsgd_in_mode_distributed_by_hand() -> None:
    """McMahan et al. 2017 with E = 1 and the whole batch, clipped: one sum a round, here before its
    noise. Gradients at 0.5, clipped to 0.4: -0.4, 0.4, 0.4 and 0.4; their sum 0.8 over q = 1 times
    4 declared patients is 0.2, and 0.5 - 0.5 * 0.2 = 0.4. Round 2 at 0.4: -0.4 and three of 0.4."""
    study = planned(
        "privacy=distributed", "privacy.epsilon=50", "privacy.clip_norm=0.4",
        "privacy.delta=1e-2", "privacy.sampling_rate=1", "algorithm=fedsgd", "server_lr=0.5",
        "rounds=2", "averaging=none", "aggregation.scale=4096",
    )  # fmt: skip
    task, sections = registry.load("quadratic"), Sections(study, train=True, evaluate=False)
    sites = [
        Contributor(SiteContext(study, site, Patients(found), DPTrainer(task, 0)))
        for site, found in cohorts().items()
    ]
    model = GlobalModel(study, task)
    for expected in (0.4, 0.3):
        body = model.body(sections)
        total = sum(site.contribution(sections, body, model.round + 1) for site in sites)
        model.step(decode_gradient(study, np.asarray(total), frozenset(SITES), 1))
        assert model.iterate == pytest.approx([expected], abs=1e-4)


def test_fedprox_by_hand() -> None:
    """mu = 1, one round from 0.5: a: 0.55, then 0.55 - 0.1 (-0.45 + 0.05) = 0.59; b and c: 0.45,
    then 0.45 - 0.1 (0.45 - 0.05) = 0.41. The mean update is (0.09 - 3 * 0.09) / 4 = -0.045."""
    outcome = run(planned(*PLAIN, "rounds=1", "algorithm=fedprox", "algorithm.mu=1"))
    assert outcome.weights == pytest.approx([0.455], rel=1e-5)


def test_scaffold_by_hand() -> None:
    """Karimireddy et al. 2020. Round 1 is FedAvg's; c_a = -0.095 / 0.2 = -0.475, c_b = c_c = 0.475,
    c = (-0.475 + 3 * 0.475) / 4 = 0.2375. Round 2 from 0.4525, a: y = 0.4525 - 0.1 (-0.5475 +
    0.7125) = 0.436, then 0.42115; c_a+ = -0.475 - 0.2375 + 0.03135 / 0.2 = -0.55575. b and c:
    0.431, then 0.41165; c_b+ = 0.475 - 0.2375 + 0.04085 / 0.2 = 0.44175."""
    federation = InProcessFederation(cohorts())
    study = planned(*PLAIN, "rounds=2", "algorithm=scaffold")
    outcome = run(study, federation)
    assert outcome.weights == pytest.approx([0.414025], rel=1e-5)
    assert variates(federation, study) == pytest.approx(
        {"a": -0.55575, "b": 0.44175, "c": 0.44175}, rel=1e-4
    )


def variates(federation: InProcessFederation, study: Study) -> dict[str, float]:
    found = {site: federation.states[site, study.digest].vector for site in SITES}
    return {site: float(vector[0]) for site, vector in found.items() if vector is not None}


class Losing:
    """A fleet in which the answer of one site to a Collect goes astray, once."""

    def __init__(self, fleet: Fleet, site: str, attempt: int) -> None:
        self._fleet, self._lost = fleet, (site, attempt)

    def online(self) -> frozenset[str]:
        return self._fleet.online()

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        asked = messages.parse(next(iter(frames.values())))
        for site, answer in self._fleet.ask(frames, timeout):
            astray = isinstance(asked, messages.Collect) and (site, asked.attempt) == self._lost
            yield site, None if astray else answer


@pytest.mark.parametrize("mode", ["none", "local"])
def test_scaffolds_variates_stay_the_mean_of_the_sites_own_after_a_lost_attempt(mode: str) -> None:
    """The server's variate is the weighted mean of the sites', as in the paper; a site that moved
    on with an attempt that was lost would part from it for good."""
    federation = InProcessFederation(cohorts())
    private = (
        ("privacy=local", "privacy.epsilon=50", "privacy.delta=1e-2", "privacy.sampling_rate=1",
         "averaging=none")
        if mode == "local" else PLAIN
    )  # fmt: skip
    study = planned(
        *private, "rounds=4", "local_steps=2", "local_lr=0.1", "algorithm=scaffold",
        "aggregation.spare_attempts=2",
    )  # fmt: skip
    task = registry.load("quadratic")
    fleet = Losing(federation._fleet, "b", 2)
    rounds = RoundLoop(
        study, task, fleet, federation.roster, Listeners(), patience=Patience(poll=0.0, failures=3)
    )
    rounds.run()
    assert rounds.attempts.lost == (2,)
    own = variates(federation, study)
    mean = sum(own[site] * len(labels) / 4 for site, labels in SITES.items())
    control = rounds.model.body(Sections(study, train=True, evaluate=False))[1]
    assert control == pytest.approx(mean, rel=1e-3, abs=1e-5)
    assert len({round(value, 6) for value in own.values()}) > 1


def test_the_schedule_scales_the_servers_step_by_hand() -> None:
    """FedAvg's two rounds, the second at half the rate: 0.4525 - 0.5 * 0.038475."""
    halved = ("schedule=step", "schedule.every=1", "schedule.factor=0.5")
    outcome = run(planned(*PLAIN, "rounds=2", *halved))
    assert outcome.weights == pytest.approx([0.4332625], rel=1e-5)


def test_masks_change_nothing_for_scaffold() -> None:
    weights = [
        run(planned(*PLAIN, "rounds=3", "algorithm=scaffold", f"federation.masked={masked}"))
        .weights
        for masked in ("true", "false")
    ]  # fmt: skip
    assert np.array_equal(weights[0], weights[1])


@pytest.mark.parametrize("mode", ["none", "local"])
def test_fedbn_releases_the_initial_normalisation_and_each_site_has_its_own(mode: str) -> None:
    private = ("privacy=none",) if mode == "none" else (
        "privacy=local", "privacy.epsilon=50", "privacy.delta=1e-2", "averaging=none"
    )  # fmt: skip
    study = planned(
        *private, "privacy.sampling_rate=1", "local_steps=3", "rounds=3", "algorithm=fedbn",
        task="normalised",
    )  # fmt: skip
    federation = InProcessFederation(cohorts("normalised"))
    released = run(study, federation).weights
    start = FlatModel(registry.load("normalised"), study.optimisation.seed)
    own = normalisation(start)
    assert np.array_equal(released[own], start.weights()[own])
    assert not np.array_equal(released[~own], start.weights()[~own])
    personal = [federation.states[site, study.digest].personal for site in SITES]
    for model in personal:
        assert model is not None
        assert np.array_equal(model[~own], released[~own])
        assert not np.array_equal(model[own], released[own])
    assert not np.array_equal(present(personal[0]), present(personal[1]))


def test_dittos_own_models_change_nothing_that_is_released() -> None:
    """The same study with and without them, in mode none, where all is reproducible."""
    plain = run(planned(*PLAIN, "rounds=3"))
    federation = InProcessFederation(cohorts())
    study = planned(*PLAIN, "rounds=3", "algorithm=ditto", "algorithm.attraction=0")
    beside = run(study, federation)
    assert np.array_equal(plain.weights, beside.weights)
    assert plain.metrics == beside.metrics
    own = variates(federation, study)
    # ten steps a round of gradient w - label from 0.5, drawn to nothing: 1 - 0.5 * 0.9^30
    assert own == pytest.approx(
        {"a": 1 - 0.5 * 0.9**30, "b": 0.5 * 0.9**30, "c": 0.5 * 0.9**30}, rel=1e-4
    )


@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_ditto_runs_beside_private_studies_and_keeps_its_model(mode: str) -> None:
    study = planned(
        f"privacy={mode}", "privacy.epsilon=50", "privacy.delta=1e-2", "rounds=3",
        "privacy.sampling_rate=1", "algorithm=ditto", "averaging=none", "aggregation.scale=4096",
    )  # fmt: skip
    federation = InProcessFederation(cohorts())
    run(study, federation)
    own = {site: federation.states[site, study.digest].personal for site in SITES}
    assert all(model is not None and model[0] != START for model in own.values())


def test_an_own_model_that_diverges_says_nothing_in_a_private_mode() -> None:
    """A refusal would depend on data: only in mode none is it given."""
    wild = ("rounds=2", "algorithm=ditto", "algorithm.lr=1e4", "algorithm.steps=200")
    with pytest.raises(WardroundError) as refused:
        run(planned(*PLAIN, *wild))
    assert refused.value.code is Code.DIVERGED
    assert "algorithm.lr" in refused.value.remedy
    private = ("privacy=distributed", "privacy.epsilon=50", "privacy.delta=1e-2", "averaging=none")
    study = planned(*private, "aggregation.scale=4096", *wild)
    assert run(study).status == "finished"


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd", "fedprox", "scaffold", "fedbn", "ditto"])
def test_a_diverging_study_names_the_round_and_what_to_try(algorithm: str) -> None:
    task = "exploding_normalised" if algorithm == "fedbn" else "exploding_quadratic"
    study = planned(
        "privacy=none", "privacy.sampling_rate=1", "rounds=3", f"algorithm={algorithm}",
        "local_lr=1e4", f"local_steps={1 if algorithm == 'fedsgd' else 50}",
        "aggregation.update_range=1e6", task=task,
    )  # fmt: skip
    with pytest.raises(WardroundError, match=r"diverged in round \d") as refused:
        run(study)
    assert refused.value.code is Code.DIVERGED
    assert "lr" in refused.value.remedy


class Interrupting(Listeners):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def round(self, report: RoundReport) -> None:
        if report.round == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("algorithm", ["scaffold", "ditto"])
def test_a_resumed_study_has_its_variates_its_schedule_and_its_patience(
    algorithm: str, tmp_path: Path
) -> None:
    study = planned(
        *PLAIN, "rounds=8", f"algorithm={algorithm}", "schedule=cosine", "schedule.warmup=2",
        "optimiser=fedadam", "evaluation.every=2", "stop=early", "stop.metric=log_loss",
        "stop.patience=6", "aggregation.spare_attempts=1",
    )  # fmt: skip
    task, whole = registry.load("quadratic"), InProcessFederation(cohorts())
    expected = whole.run(study, task, Listeners())
    with pytest.raises(KeyboardInterrupt):
        InProcessFederation(cohorts()).run(
            study, task, Interrupting(4), checkpoint=tmp_path / "checkpoint"
        )
    again = InProcessFederation(cohorts())  # as another process would make it
    resumed = again.run(study, task, Listeners(), checkpoint=tmp_path / "checkpoint")
    assert np.array_equal(resumed.weights, expected.weights)
    for site in SITES:
        ours, theirs = (one.states[site, study.digest] for one in (again, whole))
        assert np.array_equal(present(ours.vector), present(theirs.vector))
        assert (ours.personal is None) == (algorithm == "scaffold")
        if algorithm != "scaffold":
            assert np.array_equal(present(ours.personal), present(theirs.personal))


def test_a_study_that_stops_early_releases_its_best_model_and_spends_less() -> None:
    """The model moves away from the labels' mean, 1/4, at a rate that makes it worse each round;
    the best scored is that of round 1, and rounds 2 and 3 bring no improvement."""
    overrides = ("evaluation.every=1", "stop=early", "stop.metric=log_loss", "stop.patience=2")
    study = planned(*PLAIN, "rounds=30", "server_lr=12", *overrides)
    outcome = run(study)
    assert outcome.status == "finished"
    assert len(outcome.rounds) < 30
    losses = [report.metrics["log_loss"].value for report in outcome.rounds]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3
    assert outcome.metrics["log_loss"].value == pytest.approx(losses[best])


def test_a_private_study_that_stops_early_reports_what_it_spent() -> None:
    study = planned(
        "privacy=distributed", "privacy.epsilon=5", "privacy.delta=1e-2", "rounds=40",
        "privacy.sampling_rate=0.5", "averaging=none", "evaluation.every=1", "stop=early",
        "stop.patience=1",
    )  # fmt: skip
    outcome = run(study)
    assert study.privacy.epsilon is not None
    assert outcome.epsilon is not None
    assert len(outcome.rounds) < 40
    assert outcome.epsilon < study.privacy.epsilon


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "krum"])
def test_one_site_that_sends_anything_does_not_move_a_robust_study(rule: str) -> None:
    """Five sites whose patients all have label 1; one of them learns, and sends, the opposite ten
    times over. The mean goes wrong, the robust rules do not."""
    names = ("a", "b", "c", "d", "e")
    wild = {name: cohort(1, 1) for name in names} | {"e": cohort(0, 0)}

    def weight(*overrides: str) -> float:
        config = compose.load(
            ["task.name=quadratic", "evaluation.split=column", "tracking=off", *PLAIN, "rounds=5",
             "federation.masked=false", *overrides]
        )  # fmt: skip
        declared = dict.fromkeys(names, 2) | {"e": 200}
        study = build_study(config, registry.load("quadratic"), declared)
        outcome = InProcessFederation(wild).run(study, registry.load("quadratic"), Listeners())
        return float(outcome.weights[0])

    assert weight() < START < weight(f"robust={rule}")


def test_a_robust_study_needs_every_sites_consent_to_be_seen() -> None:
    study = planned(*PLAIN, "robust=median", "federation.masked=false")
    rules: dict[str, object] = {
        "tasks": ("quadratic",),
        "purposes": ("research",),
        "modes": ("none",),
        "exact_evaluation": True,
        "least_patients": 1,
    }
    with pytest.raises(WardroundError, match=r"policy\.unmasked") as refused:
        Policy.model_validate(rules).check(study, site="a", roster=study.sites)
    assert refused.value.code is Code.REFUSED_POLICY
    Policy.model_validate(rules | {"unmasked": True}).check(study, site="a", roster=study.sites)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("algorithm=scaffold", "algorithm.mu=1", "privacy=none"), "algorithm.mu is of fedprox"),
        (("algorithm=fedprox",), "one gradient a round"),
        (("algorithm=scaffold",), "one gradient a round"),
        (("algorithm=fedbn",), "one gradient a round"),
        (("algorithm=fedprox", "privacy=none", "local_steps=1"), "it is fedavg"),
        (("algorithm=scaffold", "privacy=none", "local_steps=1"), "it is fedavg"),
        (("algorithm=scaffold", "privacy=local", "privacy.epsilon=1"), "it is fedavg"),
        (("algorithm=fedsgd", "privacy=none", "local_steps=3"), "takes one step a round"),
        (("robust=median", "privacy=none", "federation.masked=true"), "opens nothing but"),
        (("stop=early", "evaluation.every=0"), "there are none before the end"),
        (("stop=early", "evaluation.every=1", "averaging=last_half"), "which half is the last"),
        (("schedule=cosine", "schedule.every=3"), "schedule.every is of step"),
        (("robust=median", "robust.byzantine=1"), "robust.byzantine is of trimmed_mean and krum"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_starts(
    overrides: tuple[str, ...], why: str
) -> None:
    with pytest.raises(WardroundError, match=why) as refused:
        compose.load(overrides)
    assert refused.value.code is Code.CONFIGURATION
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("algorithm=ditto", "algorithm.evaluated=personal"), "which no epsilon here covers"),
        (("robust=median", "federation.masked=false"), "noise suffices only in the sum"),
        (("robust=krum", "federation.masked=false", "privacy=none"), "krum needs 5 sites"),
        (("algorithm=fedbn", "privacy=none"), "no normalisation layers"),
    ],
)
def test_what_the_study_itself_refuses_says_why(overrides: tuple[str, ...], why: str) -> None:
    with pytest.raises(WardroundError, match=why) as refused:
        planned("privacy.delta=1e-2", "averaging=none", *_epsilon(overrides), *overrides)
    assert refused.value.code is Code.CONFIGURATION


def _epsilon(overrides: tuple[str, ...]) -> tuple[str, ...]:
    return () if "privacy=none" in overrides else ("privacy.epsilon=50",)
