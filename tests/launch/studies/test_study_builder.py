"""From a configuration to a study whose epsilon is the one asked for."""

import pytest
from scipy.stats import binom
from torch import nn

from launch.config import compose
from launch.studies.plan_spares import QUANTILE, enough, spare_attempts
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.privacy.releases import check_claim, planned_events, spent_epsilon
from protocol.study.study import MOST_SITES, Study
from server.enrolment.roster import banded
from tasks import registry
from tasks.base import Task
from tasks.shipped.breast_cancer import BreastCancer

SITES = {"east": 110, "north": 150, "south": 72, "west": 47}


def build(*overrides: str, sites: dict[str, int] | None = None) -> Study:
    config = compose.load(list(overrides))
    return build_study(config, registry.load(config.task.name), sites or SITES)


@pytest.mark.parametrize("mode", ["local", "distributed"])
@pytest.mark.parametrize("split", ["patients", "column", "date"])
def test_epsilon_asked_for_is_the_epsilon_planned(mode: str, split: str) -> None:
    study = build(
        f"privacy={mode}",
        "privacy.epsilon=2",
        "rounds=20",
        f"evaluation.split={split}",
        f"evaluation.since={'2024-03-01' if split == 'date' else ''}",
        "federation.masked=true",
    )
    assert study.parts_disjoint == (split == "patients")
    check_claim(study)
    planned = spent_epsilon(study, study.aggregation.attempts, study.evaluations)
    assert planned is not None
    assert 1.9 < planned <= 2.0
    assert study.privacy.epsilon == 2.0


def test_large_models_are_rounded_by_site_and_small_ones_by_patient() -> None:
    class Large(BreastCancer):
        def model(self) -> nn.Module:
            return nn.Sequential(nn.Linear(30, 64), nn.Tanh(), nn.Linear(64, 1))

    assert build("privacy.epsilon=2", "rounds=20").aggregation.rounding == "patient"
    config = compose.load(["privacy.epsilon=2", "rounds=20", "federation.masked=true"])
    study = build_study(config, Large(), SITES)
    assert study.aggregation.rounding == "site"
    check_claim(study)


def test_less_epsilon_is_more_noise() -> None:
    strict, loose = (build(f"privacy.epsilon={e}", "rounds=20") for e in (0.5, 5))
    assert strict.privacy.noise_multiplier > 2 * loose.privacy.noise_multiplier


def test_the_same_configuration_twice_gives_two_studies_that_differ_in_their_nonce_alone() -> None:
    one, other = build("privacy=none"), build("privacy=none")
    assert one.digest != other.digest
    assert one.model_copy(update={"nonce": other.nonce}) == other


def test_no_epsilon_without_privacy() -> None:
    study = build("privacy=none")
    assert study.privacy.epsilon is None
    assert not planned_events(study)
    with pytest.raises(WardroundError) as refused:
        build("privacy=none", "privacy.epsilon=1")
    assert refused.value.code is Code.CONFIGURATION


def test_an_epsilon_out_of_reach_says_what_to_change() -> None:
    with pytest.raises(WardroundError) as refused:
        build("privacy=distributed", "privacy.epsilon=1e-4")
    assert refused.value.code is Code.EPSILON_UNREACHABLE
    assert "epsilon" in refused.value.remedy


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("privacy.sampling_rate=1.5", "sampling_rate"),
        ("privacy.delta=0.7", "delta"),
        ("rounds=0", "rounds"),
        ("evaluation.fraction=1", "fraction"),
        ("averaging=sometimes", "averaging"),
        ("aggregation.least_sites=9", "least_sites"),
        ("local_steps=3", "local_steps"),
        ("optimiser.name=fedfoo", "fedfoo"),
    ],
)
def test_a_value_out_of_range_is_named(override: str, named: str) -> None:
    with pytest.raises(WardroundError) as refused:
        build("privacy=distributed", override)
    assert refused.value.code is Code.CONFIGURATION
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "sites", "masked"),
    [
        (("privacy=distributed",), 3, True),
        (("privacy=distributed",), 2, False),
        (("privacy=local",), 3, False),
        (("privacy=none",), 3, False),
        (("privacy=none", "evaluation=noised", "privacy.epsilon=1"), 3, True),
        (("privacy=none", "evaluation=noised", "privacy.epsilon=1", "robust=median"), 3, False),
    ],
)
def test_simulated_sites_mask_where_that_spares_noise(
    overrides: tuple[str, ...], sites: int, masked: bool
) -> None:
    study = build("rounds=5", *overrides, sites=dict(list(SITES.items())[:sites]))
    assert study.aggregation.masked == masked
    check_claim(study)


def test_spare_attempts_are_paid_for() -> None:
    """A deployment may lose attempts, and its epsilon counts attempts, not rounds."""
    without = build("rounds=20", "aggregation.spare_attempts=0")
    with_spare = build("rounds=20", "aggregation.spare_attempts=20")
    assert with_spare.aggregation.attempts == without.aggregation.attempts + 20
    assert with_spare.privacy.noise_multiplier > without.privacy.noise_multiplier


@pytest.mark.parametrize(("patients", "declared"), [(7, 7), (99, 99), (157, 150), (12345, 12000)])
def test_declared_numbers_are_banded_downwards(patients: int, declared: int) -> None:
    assert banded(patients) == declared


def test_a_large_cohort_still_fits_32_bits_at_hardly_more_noise() -> None:
    """Bytes per round at most float32's: the clip norm's integer gives way, not the words."""
    sites = {f"site{n:02d}": 900 for n in range(32)}
    overrides = ("privacy=distributed", "privacy.epsilon=2", "rounds=20")
    fitted = build(*overrides, "aggregation.scale=null", sites=sites)
    fine = build(*overrides, f"aggregation.scale={2**16}", sites=sites)
    assert fine.aggregation.word_bits == 64
    assert fitted.aggregation.word_bits == 32
    assert fitted.privacy.noise_multiplier < 1.02 * fine.privacy.noise_multiplier


def test_only_the_sites_that_are_named_are_asked() -> None:
    words = ("privacy=local", "privacy.epsilon=2", "federation.sites=[west,east,north]")
    assert build(*words).sites == ("east", "north", "west")
    assert build("privacy=local", "privacy.epsilon=2").sites == tuple(SITES)


def test_more_sites_than_a_study_has_are_named_with_the_remedy() -> None:
    with pytest.raises(WardroundError, match="1001 sites are there") as refused:
        build("privacy=none", sites={f"site{number:04}": 20 for number in range(MOST_SITES + 1)})
    assert "federation.sites" in refused.value.remedy


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("[east,north,sout]", "sites that are not there: sout"),
        ("[east,north]", "names 2 sites, and a sum needs 3"),
        ("[east,east,north]", "names 2 sites, and a sum needs 3"),
    ],
)
def test_sites_that_are_unknown_or_too_few_are_refused_by_name(named: str, said: str) -> None:
    with pytest.raises(WardroundError, match=said) as refused:
        build("privacy=distributed", "privacy.epsilon=2", "federation=deployment",
              f"federation.sites={named}")  # fmt: skip
    assert refused.value.code is Code.CONFIGURATION


@pytest.mark.parametrize(
    ("words", "grace"),
    [
        (("privacy=local", "privacy.epsilon=2", "federation=deployment"), 10.0),
        (("privacy=local", "privacy.epsilon=2"), None),
        (("privacy=none", "evaluation=exact", "federation=deployment"), None),
    ],
)
def test_only_where_all_is_noised_a_study_starts_without_some(
    words: tuple[str, ...], grace: float | None
) -> None:
    assert build(*words).aggregation.grace == grace


def test_spare_attempts_follow_the_loss_that_is_expected() -> None:
    """Sums that need one more than the quantile of the binomial, counted out by hand."""
    for needed, loss in ((1, 0.05), (11, 0.05), (11, 0.1), (41, 0.1), (20_000, 0.02)):
        spare = spare_attempts(needed, loss)
        for planned, is_enough in ((spare, True), (spare - 1, False)):
            lost_of_all = binom.sf(planned, needed + planned, loss) if planned >= 0 else 1.0
            assert (1 - lost_of_all >= QUANTILE) == is_enough
    assert spare_attempts(100, 0.0) == 0
    words = ("privacy=local", "privacy.epsilon=2", "federation=deployment", "rounds=10")
    deployed = build(*words)
    assert deployed.spare_attempts == spare_attempts(11, 0.05) == 3
    assert enough(deployed, 0.05) >= QUANTILE
    assert build(*words, "aggregation.loss=0.1").spare_attempts == 5
    assert build("privacy=local", "privacy.epsilon=2").spare_attempts == 0


def test_an_audit_is_asked_for_only_of_a_task_with_public_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or its model could never be approved, which would be said when it is trained and paid for."""
    audited = ("privacy.epsilon=2", "rounds=5", "gates.audit=true")
    assert build(*audited).gates is not None
    monkeypatch.setattr(BreastCancer, "public_sites", Task.public_sites)
    with pytest.raises(WardroundError, match="task breast_cancer has none") as refused:
        build(*audited)
    assert refused.value.code is Code.CONFIGURATION
    assert "gates.audit=false" in refused.value.remedy
