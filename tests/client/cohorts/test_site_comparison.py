"""Where a site differs: seen by itself from its own counts, said to others from noised ones."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cohorts import site_comparison
from client.cohorts.query_counts import QueryContributor, QueryRecords, count_patients
from client.cohorts.site_comparison import ColumnHere, said, seen_here, write_page
from protocol.privacy import query_noise
from protocol.privacy.query_noise import half_width, own, own_noise, pooled_noise, share
from protocol.privacy.releases import evaluation_event, planned_broken_epsilon, planned_events
from protocol.study.query import FIGURE_UNIT, SITES_THAT
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from tasks.schema import PATIENT, Column, Schema, Table
from tests.exact_tails import has_variance, is_binomial
from tests.protocol.query_document import asked

SCHEMA = Schema((Column("chol", "cholesterol", low=0, high=10),), "died", "died")
AXIS = {"kind": "bins", "column": "chol", "edges": [0, 10]}
MECHANISMS = ("laplace", "skellam")


def comparing(
    released: tuple[float, float] = (2700, 300),
    *,
    epsilon: float = 1.0,
    mechanism: str = "laplace",
    columns: int = 1,
    sites_per_patient: int = 1,
) -> Study:
    """A query that compares the missing values of one column, `columns` times; epsilon: of each."""
    released_so = {"counts": list(released), "variances": [4.0, 4.0]}
    statistics = [
        {
            "kind": "differing",
            "name": f"chol {k}",
            "axis": AXIS,
            "released": released_so,
            "groups": [0, 1],
        }
        for k in range(columns)
    ]
    scale = 1 if mechanism == "laplace" else 256
    return asked(
        {"statistics": statistics, "mechanism": mechanism, "least_count": 0},
        evaluation={"noise_multiplier": 1 / epsilon, "scale": scale},
        privacy={
            "mode": "distributed",
            "noise_multiplier": 1 / epsilon,
            "delta": 1e-5,
            "epsilon": 99.0,
            "sites_per_patient": sites_per_patient,
        },
    )


def records(known: int, missing: int) -> QueryRecords:
    values = np.array([5.0] * known + [np.nan] * missing)
    names = np.array([f"p{k}" for k in range(len(values))], dtype=object)
    table: Table = {PATIENT: names, "chol": values, "died": np.zeros(len(values))}
    return QueryRecords(table, SCHEMA)


def counts(study: Study, known: int, missing: int) -> np.ndarray:
    assert study.query is not None
    return count_patients(study.query, records(known, missing), study.evaluation.scale)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("known", "missing", "word"),
    [(600, 400, 0), (899, 101, 1), (1, 2, 2)],
    ids=["differs", "alike", "hardly anybody"],
)
@pytest.mark.parametrize("seldom", [False, True])
def test_a_site_says_one_word_of_a_column(
    monkeypatch: pytest.MonkeyPatch,
    known: int,
    missing: int,
    word: int,
    mechanism: str,
    seldom: bool,
) -> None:
    """Also where all sites together lack hardly a value."""
    if known + missing < 10:  # now and then noise makes patients out of nobody
        monkeypatch.setattr(query_noise, "own", lambda study, count: np.zeros(count, np.int64))
    study = comparing((2999, -1) if seldom else (2700, 300), mechanism=mechanism)
    if seldom and word == 1:
        known, missing = 1000, 0
    contributor = QueryContributor(study, records(known, missing))
    said_so = 0
    for _ in range(5):
        words = contributor.contribution(Sections(study, False, True), np.zeros(0, np.float32), 1)
        assert sorted(words[:3].tolist()) == [0, 0, study.evaluation.scale]
        said_so += int(words[:3].argmax() == word)
        assert words[3] == (FIGURE_UNIT if known + missing > 100 else 0)
    assert said_so >= 3, "noise changes the word once in hundreds"
    assert not contributor.noise(Sections(study, False, True), 3).any()


def test_noise_is_not_taken_for_a_difference() -> None:
    """At so small an epsilon a thousand patients tell nothing, though the site itself sees it."""
    study = comparing(epsilon=0.002)
    here = counts(study, 600, 400)
    words = [said(study, here)[:3].tolist() for _ in range(20)]
    assert words.count([0, 0, 1]) >= 16, "chance has its level too"
    assert seen_here(study, here)[0].says == "differ"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_is_said_rests_on_noised_counts_alone(
    monkeypatch: pytest.MonkeyPatch, mechanism: str
) -> None:
    """Of every comparison that is told to others, the counts have all the noise that epsilon
    takes, fresh each time."""
    study, seen = comparing(epsilon=0.25, mechanism=mechanism, columns=3), []
    here = counts(study, 600, 400)

    def noting(now: Any, *args: Any) -> Any:
        seen.append(now.counts)
        return None

    monkeypatch.setattr(site_comparison, "compare", noting)
    monkeypatch.setattr(site_comparison, "compare_commonest", lambda *_: None)
    for _ in range(400):
        said(study, here)
    noise = (np.array(seen).reshape(400, -1) - here / study.evaluation.scale).ravel()
    if mechanism == "skellam":
        assert has_variance(noise, 16.0)
        return
    ratio = math.exp(-0.25)
    for value in range(-4, 5):
        chance = (1 - ratio) / (1 + ratio) * ratio ** abs(value)
        assert is_binomial(int((noise == value).sum()), noise.size, chance), value


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_figures_rest_on_noised_counts_alone(mechanism: str) -> None:
    """The patients that a site says, of two cells, have the noise of two cells."""
    study = comparing(epsilon=0.25, mechanism=mechanism)
    here = counts(study, 600, 400)
    patients = np.array([said(study, here)[4] / FIGURE_UNIT for _ in range(200)]) - 1000
    values, chances = own_noise(study)
    assert np.var(patients) == pytest.approx(2 * np.dot(values**2, chances), rel=0.5)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_site_has_all_the_noise_and_the_sum_of_words_has_none(mechanism: str) -> None:
    study = comparing(epsilon=0.25, mechanism=mechanism)
    values, chances = own_noise(study)
    assert np.dot(values**2, chances) == pytest.approx(
        np.var([own(study, 20_000)]) / study.evaluation.scale**2, rel=0.1
    )
    assert not share(study, 3).any()
    assert pooled_noise(study, 3)[0].tolist() == [0.0]
    assert half_width(study, 3) == 0.0


def test_a_patient_at_several_sites_is_charged_at_each_of_them() -> None:
    one = comparing(columns=2)
    two = comparing(columns=2, sites_per_patient=2)
    events = [evaluation_event(study) for study in (one, two)]
    assert [(e and e.count, e and e.shared) for e in events] == [(2, False), (4, False)]
    assert planned_broken_epsilon(two, 1e-5) == pytest.approx(4.0, rel=1e-3)
    assert sum(event.count * event.epsilon for event in planned_events(two)) == 4.0


def test_differences_by_chance_are_as_rare_as_the_level_says() -> None:
    """1% for one column: of 300 sites that are like all others hardly one is said to differ."""
    study, chance = comparing(epsilon=0.5), np.random.default_rng(5)
    differing = 0
    for _ in range(300):
        missing = int(chance.binomial(500, 0.1))
        differing += int(said(study, counts(study, 500 - missing, missing))[0])
    assert differing <= 10


def test_the_site_sees_its_own_shares_beside_those_of_all(tmp_path: Path) -> None:
    study = comparing()
    columns = seen_here(study, counts(study, 600, 400))
    (column,) = columns
    assert column.says == "differ"
    assert column.p is not None
    assert column.p < 0.01
    assert column.shares == (("any value", 0.6, 0.9), ("missing", 0.4, 0.1))
    others = ColumnHere("sex", "do not differ", None, (("<f>", 0.5, 0.5),))
    page = write_page(study, [others, *columns], tmp_path)
    text = page.read_text()
    assert text.index("chol 0: differs") < text.index("sex: no difference")
    assert "<td>60.0%</td><td>90.0%</td>" in text
    assert "&lt;f&gt;" in text
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700


def test_every_word_has_its_place() -> None:
    assert set(site_comparison._PLACES.values()) == set(range(len(SITES_THAT)))
    assert query_noise.max_noise(comparing()) == 0.0
