"""What a site sees of a released model on its own patients: its figures, exactly, and no rank."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.config.site_config import SiteConfig
from client.governance.governance import SiteGovernance
from client.prediction.own_figures import own_figures
from protocol.errors import Code
from protocol.outcomes.binary import Binary
from server.report.model_card import card
from server.report.subgroups import markdown
from tasks import registry
from tests.attack.simulated import TASK, cohorts
from tests.client.cli.conftest import Run, run
from tests.client.prediction.ward import site
from tests.client.training.test_subgroups import SUBGROUPS, planned, with_levels
from tests.protocol.models.bundles import bundle
from tests.server.outcomes import outcome
from tests.server.outcomes import study as reported

__all__ = ["run"]

MODEL = bundle()


def test_figures_of_this_site_are_exact_and_stand_beside_those_of_all() -> None:
    study, task = planned(*SUBGROUPS), registry.load(TASK)
    cohort = with_levels(next(iter(cohorts(1).values())), 2)
    done = outcome(reported())
    text = card(done.study, done)
    found = own_figures(replace(MODEL, study=study, card=text), task, cohort, "site0")
    assert found.patients == len(cohort.members("evaluation"))
    sex, age = found.subgroups
    for by in (sex, age):
        counted = [level.patients.value for level in by.levels if level.patients is not None]
        assert sum(counted) == found.patients
    assert set(found.metrics) >= {"auc", "accuracy"}
    assert "| auc | **0.930** | 0.910 to 0.950 |" in found.pooled
    assert "What it cost in privacy" not in found.pooled
    said = "\n".join(found.lines())
    assert "age missing: nobody" in said
    assert "rank" not in said
    assert json.dumps(found.plain(), allow_nan=False)
    assert markdown(done) == "", "of a study without subgroups"


def test_they_are_of_the_scores_that_patients_would_get() -> None:
    study, task = planned(), registry.load(TASK)
    cohort = next(iter(cohorts(1).values()))
    found = own_figures(replace(MODEL, study=study), task, cohort, "site0")
    rows = cohort.first(cohort.members("evaluation"), "evaluation")
    names = [name for name, _ in MODEL.layout.entries]
    weight, bias = (MODEL.weights_by_name[name].astype(np.float64) for name in names)
    scores = 1 / (1 + np.exp(-(cohort.features[rows] @ weight[0] + bias[0])))
    fine = replace(MODEL, study=study).study.evaluation.bins
    counts = Binary().counts(scores, cohort.labels[rows].astype(np.float64), fine)
    assert found.metrics == Binary().pooled(counts.astype(np.float64), fine)


def test_the_command_is_for_studies_that_this_site_knows(run: Run, tmp_path: Path) -> None:
    site(tmp_path)
    file, folder = tmp_path / "model.safetensors", tmp_path / "site"
    MODEL.write(file)
    words = ("figures", "--model", file, "--json", "-c", folder)
    assert run(*words).status == 2
    config = SiteConfig.load(folder / "site.yaml")
    governance = SiteGovernance(config, config.load_identity())
    governance.propose(MODEL.study)
    governance.close_state()
    done = run(*words)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["study"] == MODEL.study.digest
    assert found["patients"] > 0
    log = run("audit", "export", "-c", folder).out
    assert MODEL.study.digest in log
    assert "auc" not in log


@pytest.mark.parametrize("changed", ["card", "weights"])
def test_a_bundle_that_was_changed_says_nothing(run: Run, tmp_path: Path, changed: str) -> None:
    site(tmp_path)
    file = tmp_path / "model.safetensors"
    other = {"card": "# Approved"} if changed == "card" else {"weights": MODEL.weights + 1}
    replace(MODEL, **other).write(file)
    done = run("figures", "--model", file, "-c", tmp_path / "site")
    assert done.status == Code.WEIGHTS.exit_status
    assert "was changed" in done.err
