"""Algorithms over TLS with real daemons: what a site keeps outlives it, and stays where it is."""

from __future__ import annotations

import json
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli import main
from client.cohorts.loading import build_cohort
from client.governance.budget import budget
from launch.federations.inprocess import InProcessFederation
from server.rounds.listener import Listeners
from tasks import registry
from tests.client.daemon_federation import TASK, Wards

VICTIM = "west"


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wards]:
    wards = Wards(
        tmp_path_factory.mktemp("algorithms"),
        modes=("none", "local", "distributed"),
        exact_evaluation=True,
        public_data=("breast_cancer",),
    )
    rest = [wards.daemon(site) for site in wards.sites if site != VICTIM]
    yield wards
    statuses = [daemon.stop() for daemon in rest]
    wards.close()
    assert statuses == [0] * len(rest)


def inprocess(wards: Wards) -> InProcessFederation:
    """The same hospitals, split as their daemons split, in this process."""
    cohorts = {}
    task, plan = registry.load(TASK), wards.study(rounds=1).evaluation
    for site in wards.sites:
        with wards.books(site) as (config, state, _):
            cohorts[site] = build_cohort(config, task, state.split.place, plan)
    return InProcessFederation(cohorts)


def test_scaffold_is_the_same_study_where_a_site_is_killed_and_comes_back(wards: Wards) -> None:
    """West's share of round 1 is sent, and west is gone: what it kept must count in round 2. The
    same study in one process, without the kill, ends with the same weights, bit for bit."""
    no_epsilon: dict[str, Any] = {"privacy.epsilon": "null"}
    study = wards.study(
        rounds=4,
        privacy="none",
        algorithm="scaffold",
        local_steps=3,
        optimiser="fedadam",
        schedule="cosine",
        **no_epsilon,
    )
    killed = wards.daemon(VICTIM, "share sent")
    wards.until_online()
    running = wards.run(study)
    assert killed.ended() == -signal.SIGKILL
    kept = wards.config(VICTIM).state / "kept" / study.digest
    assert [path.name for path in kept.iterdir()] == ["shared-1.npy"]
    assert stat.S_IMODE((kept / "shared-1.npy").stat().st_mode) == 0o600
    restarted = wards.daemon(VICTIM)
    outcome = running.outcome()
    assert restarted.stop() == 0
    assert outcome.status == "finished"
    whole = inprocess(wards).run(study, registry.load(TASK), Listeners())
    assert np.array_equal(outcome.weights, whole.weights)
    assert not kept.exists(), "a study that has ended keeps nothing"


def test_ditto_leaves_a_model_at_each_site_and_early_stopping_closes_the_ledger(
    wards: Wards, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = wards.study(
        rounds=40,
        spare=4,
        algorithm="ditto",
        averaging="none",
        stop="early",
        **{"stop.patience": 1, "evaluation.every": 1},
    )
    last = wards.daemon(VICTIM)
    wards.until_online()
    outcome = wards.run(study).outcome()
    assert last.stop() == 0
    used = len(outcome.rounds) + 2  # the sum that scored the last model, and the closing one
    assert used < 40
    for site in wards.sites:
        with wards.books(site) as (config, state, audit):
            audit.verify()
            with state.reading() as db:
                debited = db.execute(
                    "SELECT COUNT(DISTINCT attempt), MAX(attempt) FROM debits WHERE study = ?",
                    (study.digest,),
                ).fetchone()
            account = budget(state, config.policy)
            assert debited == (used, used)
            assert account.reserved == pytest.approx(account.spent), "what was not used is free"
        own = Path(config.state) / "personal" / study.digest
        assert {path.name for path in own.iterdir()} == {
            "figures.json", "study.json", "weights.npy"
        }  # fmt: skip
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in own.iterdir())
        weights = np.load(own / "weights.npy")
        assert weights.shape == outcome.weights.shape
        assert not np.array_equal(weights, outcome.weights)
    path = wards.folder / VICTIM / "site.yaml"
    monkeypatch.setattr("sys.argv", ["wardround-site", "personal", "--json", "-c", str(path)])
    with pytest.raises(SystemExit):
        main.main()
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["study"], shown["algorithm"]) == (study.digest, "ditto")
    assert np.load(shown["weights"]).shape == outcome.weights.shape
    assert 0.5 < shown["figures"]["own"]["auc"] <= 1.0
