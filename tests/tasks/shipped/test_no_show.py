"""No-show: generated clinics, whose habits only the past appointments tell."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tasks.schema import PATIENT
from tasks.shipped.no_show import NoShow

TASK = NoShow()
SITES = TASK.public_sites(None)


def test_clinics_are_the_same_every_time_and_share_no_patient() -> None:
    again = TASK.public_sites(None)
    for site, table in SITES.items():
        assert all(np.array_equal(table[name], again[site][name]) for name in table)
        assert set(TASK.schema.names) == set(table)
    names = [set(table[PATIENT]) for table in SITES.values()]
    assert len(set.union(*names)) == sum(map(len, names))


def test_training_starts_from_the_usual_share() -> None:
    rows = torch.from_numpy(TASK.features(SITES["hill"]))
    scores = TASK.scores(TASK.model()(rows))
    assert torch.allclose(scores, torch.full_like(scores, TASK.prevalence))


def test_the_past_tells_who_will_not_come() -> None:
    table = SITES["harbour"]
    features, missed = TASK.features(table), table["missed"]
    train = np.arange(len(missed)) < len(missed) * 0.7
    past = [name.startswith("missed_before") for name in TASK.schema.feature_names]
    aucs = []
    for columns in (np.ones(len(past), bool), ~np.array(past)):
        chosen = features[:, columns]
        model = LogisticRegression(C=0.3).fit(chosen[train], missed[train])
        aucs.append(roc_auc_score(missed[~train], model.decision_function(chosen[~train])))
    assert aucs[0] > aucs[1] > 0.55
    assert aucs[0] > 0.62
