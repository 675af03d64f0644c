"""A study's algorithms: what contradicts is refused with the reason, and where things stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.privacy.randomness import Stream
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, decode_control, encode_update
from tests.protocol.study_document import document, study

LOCAL = {"mode": "local", "noise_multiplier": 2.0, "epsilon": 1.0}
NONE: dict[str, Any] = {
    "privacy": {"mode": "none"},
    "evaluation": {"release": "exact", "bins": 4},
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimisation__local": {"name": "fedprox"}}, "its term is zero"),
        ({"optimisation__local": {"name": "scaffold"}}, "its own gradient without noise"),
        ({"optimisation__local": {"name": "fedbn"}}, "without noise"),
        ({"optimisation__local": {"name": "fedfoo"}}, r"optimisation\.local"),
        (
            {"optimisation__local": {"name": "ditto", "evaluated": "personal"}},
            "which no epsilon here covers",
        ),
        (
            {
                "optimisation__local": {"name": "ditto", "evaluated": "personal"},
                "privacy": LOCAL,
            },
            "which no epsilon here covers",
        ),
        ({"optimisation__stop": {"metric": "auc"}}, "evaluation.every above 0"),
        (
            {
                "optimisation__stop": {"metric": "auc"},
                "optimisation__averaging": "last_half",
                "evaluation__every": 2,
            },
            "which half is the last",
        ),
        ({"optimisation__stop": {"metric": "f1"}}, r"optimisation\.stop\.metric"),
        ({"optimisation__schedule": {"name": "step", "factor": 1.5}}, r"schedule\.step\.factor"),
        ({"aggregation__robust": {"name": "median"}}, "opens nothing but their sum"),
        ({"optimisation__local_optimiser": {"name": "adamw"}}, "sites take no steps"),
        ({"optimisation__local_schedule": {"name": "cosine"}}, "sites take no steps"),
        (
            NONE
            | {
                "optimisation__local_optimiser": {"name": "sgd", "momentum": 0.9},
                "optimisation__local_steps": 1,
            },
            "begins anew each round",
        ),
        (
            NONE
            | {
                "optimisation__local_optimiser": {"name": "adamw"},
                "optimisation__local_steps": 2,
                "optimisation__local": {"name": "scaffold"},
            },
            "plain steps at one learning rate",
        ),
        ({"optimisation__precision": "mixed"}, "clipping is proved"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_reason(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        Study.parse(canonical(document(**changes)))
    assert caught.value.code is Code.REFUSED_STUDY


def test_a_key_that_an_algorithm_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(WardroundError, match=r"optimisation\.local\.fedavg\.mu") as caught:
        Study.parse(canonical(document(optimisation__local={"name": "fedavg", "mu": 1.0})))
    assert caught.value.code is Code.RELEASE


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "scaffold", "fedbn", "ditto"])
def test_every_algorithm_runs_in_mode_local_and_survives_its_document(name: str) -> None:
    found = study(privacy=LOCAL, optimisation__local={"name": name})
    assert Study.parse(found.document) == found
    assert found.digest != study(privacy=LOCAL).digest or name == "fedavg"


def test_scaffold_sends_and_is_sent_two_vectors_where_it_trains() -> None:
    plain = Sections(study(**NONE), train=True, evaluate=True)
    found = study(**NONE, optimisation__local={"name": "scaffold"})
    sections = Sections(found, train=True, evaluate=True)
    assert (plain.body, plain.kind, plain.length) == (27, "update+histogram", 35)
    assert (sections.body, sections.kind) == (54, "update+control+histogram")
    assert (sections.update, sections.control, sections.histogram) == (
        slice(0, 27), slice(27, 54), slice(54, 62)
    )  # fmt: skip
    closing = Sections(found, train=False, evaluate=True)
    assert (closing.body, closing.kind, closing.length) == (27, "histogram", 8)


def test_the_servers_variate_moves_by_the_roster_weighted_mean_whoever_took_part() -> None:
    """Karimireddy et al. 2020, line 17: |S| / N times the mean over S. Two of three sites, 200 and
    190 of 520 patients, moved by 0.5 and -1: (100 - 190) / 520. Sent times K lr = 3 * 0.2."""
    found = study(
        **NONE,
        optimisation__local={"name": "scaffold"},
        optimisation__local_steps=3,
        optimisation__local_lr=0.2,
    )
    total = sum(
        encode_update(found, site, np.full(27, moved * 0.6, np.float32), 1, Stream().words).integers
        for site, moved in (("cleveland", 0.5), ("hungarian", -1.0))
    )
    assert decode_control(found, np.asarray(total), 1) == pytest.approx(-90 / 520, abs=1e-6)
