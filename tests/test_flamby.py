"""FLamby's preprocessing and the rows of its table, as the benchmark has them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from flamby import ROWS, Flamby
from support.flamby_heart import SIZES, hospitals
from support.flamby_task import FlambyHeart, matrix, prepared
from support.tasks import install
from tasks import registry

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
needs_heart = pytest.mark.skipif(
    not (ROOT / "heart_disease").is_dir(), reason="wardround data fetch heart_disease"
)


@needs_heart
def test_every_hospital_is_on_its_own_scale_and_pooled_data_on_one() -> None:
    found = hospitals(registry.load("heart_disease"), ROOT)
    own, whole, pooled = prepared(found)
    for site, hospital in found.items():
        train = FlambyHeart().features(own[site])[hospital.train]
        assert train.shape == (SIZES[site][0], 13)
        assert np.abs(train.mean(axis=0)).max() < 1e-4
        varies = matrix(hospital.table)[hospital.train].std(axis=0) > 0
        assert train.std(axis=0, ddof=1)[varies] == pytest.approx(1.0, abs=1e-3)
    everyone = np.concatenate([pooled[site][found[site].train] for site in found])
    assert everyone.std(axis=0, ddof=1) == pytest.approx(1.0, abs=1e-3)
    assert len(whole["num"]) == sum(sum(sizes) for sizes in SIZES.values()) == 740


@needs_heart
def test_fedavg_of_seed_43_lies_near_flambys_own(tmp_path: Path) -> None:
    """Its published run of this seed: .7198 over hospitals, .7638 on the pooled test. It starts
    from the same weights; only the batches are drawn otherwise."""
    path = list(sys.path)
    try:
        install(tmp_path, FlambyHeart)
        flamby = Flamby(hospitals(registry.load("heart_disease"), ROOT))
        sites, pooled = flamby.judged(flamby.federated(ROWS[0], 43))
    finally:
        sys.path[:] = path
    assert sites == pytest.approx(0.7198, abs=0.02)
    assert pooled == pytest.approx(0.7638, abs=0.02)
