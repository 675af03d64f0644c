"""Robust aggregation against its papers' rules, by hand, and against sites that send anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.errors import WardroundError
from protocol.privacy.randomness import Stream
from protocol.study.study import Study
from protocol.study.vector_layout import Integers, Sections, encode_update, update_scale
from server.model.robust_aggregation import UnmaskedOpening, krum, robust_gradient
from tests.protocol.study_document import study

SITES = ("a", "b", "c", "d", "e")


def plan(sites: int = 5, **robust: Any) -> Study:
    """A study of so many sites whose declared patients differ: 10, 20, 30, ..."""
    names = SITES[:sites]
    return study(
        privacy={"mode": "none"},
        evaluation={"release": "exact", "bins": 2},
        model={"parameters": 2, "layout": "b" * 64},
        aggregation={
            "attempts": 30, "masked": False, "least_sites": sites, "robust": robust or None
        },
        roster=[{"name": n, "patients": 10 * (k + 1)} for k, n in enumerate(names)],
    )  # fmt: skip


def sent(found: Study, *differences: tuple[float, float]) -> dict[str, Integers]:
    """What each site sends for these differences of weights."""
    return {
        site: encode_update(found, site, np.array(of, np.float32), 1, Stream().words).integers
        for site, of in zip(found.sites, differences, strict=True)
    }


ONE_LIAR = ((1.0, 5.0), (2.0, 4.0), (3.0, 3.0), (4.0, 2.0), (-50.0, 90.0))


def test_the_median_of_each_coordinate() -> None:
    """Yin et al. 2018, Definition 1: of 1, 2, 3, 4, -50 it is 2; of 5, 4, 3, 2, 90 it is 4. The
    gradient is minus that; declared patients play no part."""
    found = plan(name="median")
    assert robust_gradient(found, sent(found, *ONE_LIAR)) == pytest.approx([-2, -4], abs=1e-6)


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    found = plan(4, name="median")
    assert robust_gradient(found, sent(found, *ONE_LIAR[:4])) == pytest.approx(
        [-2.5, -3.5], abs=1e-6
    )


def test_the_trimmed_mean_of_each_coordinate() -> None:
    """Yin et al. 2018, Definition 2, without one at either end: (1 + 2 + 3) / 3 and
    (3 + 4 + 5) / 3."""
    found = plan(name="trimmed_mean", byzantine=1)
    assert robust_gradient(found, sent(found, *ONE_LIAR)) == pytest.approx([-2, -4], abs=1e-6)


def test_krum_takes_the_update_nearest_to_its_neighbours() -> None:
    """Blanchard et al. 2017, section 4, n = 5, f = 1: sums of the n - f - 2 = 2 least squared
    distances. (1, 5): 2 + 6.25. (2, 4): 1.25 + 2. (3, 3.5): 1.25 + 3.25. (4, 2): 3.25 + 8."""
    found = plan(name="krum", byzantine=1)
    updates = sent(found, (1.0, 5.0), (2.0, 4.0), (3.0, 3.5), (4.0, 2.0), (-50.0, 90.0))
    assert robust_gradient(found, updates) == pytest.approx([-2, -4], abs=1e-6)


def test_krum_alone_by_hand() -> None:
    """One coordinate 0, 1, 3, 7, 100, f = 1: 1 + 9, 1 + 4, 4 + 9, 16 + 36: the second."""
    rows = [np.array([value]) for value in (0, 1, 3, 7, 100)]
    assert krum(rows, np.ones(5), 1) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["median", "trimmed_mean", "krum"]),
    st.integers(0, 10**6),
    st.floats(-1e30, 1e30),
)
def test_one_liar_moves_the_result_no_further_than_the_honest_lie_apart(
    rule: str, seed: int, lie: float
) -> None:
    """With a mean, one site could send the model anywhere. Krum may choose the liar, but only where
    its two nearest are honest and, summed, no farther than an honest one's: within sqrt(2) D."""
    found = plan(name=rule) if rule == "median" else plan(name=rule, byzantine=1)
    honest = np.random.default_rng(seed).uniform(-1, 1, (4, 2))
    updates = sent(found, *((a, b) for a, b in honest), (lie, -lie))
    result = -robust_gradient(found, updates)
    apart = np.linalg.norm(honest[:, None] - honest[None], axis=2).max()
    room = 1e-5 + (2**0.5 * apart if rule == "krum" else 0.0)
    assert (result >= honest.min(axis=0) - room).all()
    assert (result <= honest.max(axis=0) + room).all()


def share(found: Study, update: Integers, histogram: list[int]) -> bytes:
    guards = np.ones(2, dtype=np.int64)
    words = np.concatenate([update, np.array(histogram), guards])
    return words.astype(np.uint32).tobytes()


def test_updates_are_kept_apart_and_histograms_are_summed() -> None:
    found = plan(3, name="median")
    sections = Sections(found, train=True, evaluate=True)
    opening = UnmaskedOpening(found.sites, sections)
    for site, update in sent(found, *ONE_LIAR[:3]).items():
        opening.fold(site, [share(found, update, [1, 2, 3, 4])])
    total = opening.open()
    assert total[sections.histogram].tolist() == [3, 6, 9, 12]
    assert not total[sections.update].any()
    weight = 20 / 60 * update_scale(found)
    assert opening.updates["b"].tolist() == pytest.approx([2 * weight, 4 * weight], rel=1e-6)


def test_a_share_that_is_missing_strange_or_malformed_is_not_opened() -> None:
    found = plan(3, name="median")
    sections = Sections(found, train=True, evaluate=False)
    opening, update = UnmaskedOpening(found.sites, sections), np.zeros(2, dtype=np.int64)
    opening.fold("a", [share(found, update, [])])
    with pytest.raises(WardroundError, match="wrong length"):
        opening.fold("b", [share(found, update, [])[:-4]])
    with pytest.raises(WardroundError, match="guards"):
        opening.fold("b", [bytes(16)])
    with pytest.raises(WardroundError, match="not asked"):
        opening.fold("x", [share(found, update, [])])
    with pytest.raises(WardroundError, match="b, c"):
        opening.open()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aggregation__masked": True}, "secure aggregation opens nothing but their sum"),
        ({"aggregation__least_sites": 4}, "krum needs 5 sites"),
        (
            {
                "privacy": {"mode": "distributed", "epsilon": 1.0, "noise_multiplier": 1.0},
                "evaluation": {"noise_multiplier": 1.0},
            },
            "noise suffices only in the sum",
        ),
        ({"optimisation__local": {"name": "scaffold"}}, "must stay the mean"),
    ],
)
def test_where_updates_cannot_be_seen_it_is_refused_with_the_reason(
    changes: dict[str, Any], why: str
) -> None:
    document = plan(name="krum", byzantine=1).model_dump(mode="json")
    for key, value in changes.items():
        section, _, field = key.partition("__")
        if field:
            document[section][field] = value
        else:
            document[section] = value
    with pytest.raises(ValidationError, match=why):
        Study.model_validate(document)
