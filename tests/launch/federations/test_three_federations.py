"""One study, three federations: in this process, on Flower's Ray engine, in a real deployment."""

from pathlib import Path

import numpy as np

from launch.federations.inprocess import InProcessFederation
from launch.federations.ray import RayFederation
from server.rounds.listener import Listeners
from tasks import registry
from tests.server.hospitals import TASK, deployed, study_of


def test_the_same_study_gives_the_same_model(tmp_path: Path) -> None:
    """With masks, and an algorithm whose sites keep state of their own between rounds."""
    task = registry.load(TASK)
    with deployed(tmp_path) as deployment:
        hospitals = deployment.hospitals
        study, configuration = study_of(
            hospitals.patients, "algorithm=scaffold", "rounds=3", "local_steps=5", "seed=7"
        )
        deployment.connect()
        with deployment.account("ada") as remote:
            real = remote.run(study, configuration, None, Listeners())
    here = InProcessFederation(hospitals.cohorts).run(study, task, Listeners())
    with RayFederation(hospitals.cohorts, study, task, workers=2) as ray:
        there = ray.run(study, task, Listeners())
    assert here.metrics["auc"].value > 0.9
    for other in (real, there):
        assert other.status == "finished"
        assert np.allclose(other.weights, here.weights, rtol=1e-6, atol=0)
        for name, estimate in here.metrics.items():
            assert np.isclose(other.metrics[name].value, estimate.value, rtol=1e-6)
