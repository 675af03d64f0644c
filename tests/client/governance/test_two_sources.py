"""Two tasks over two sources, an OMOP database and a folder of DICOM files, into one ledger.

The hospital's record names a patient MRN3, the database 3, the imaging index a pseudonym. One
study's training is dear, the other's evaluation: whoever trains in the one and evaluates in the
other loses more than any band of one name says.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.cohorts.loading import loader
from client.config.site_config import SiteConfig
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.governance.budget import budget
from client.governance.database import SiteState
from client.governance.governance import SiteGovernance
from launch.demo.synthetic_radiographs import SCANNER_MODELS, Radiograph, write
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.privacy.accounting import Event, epsilon
from protocol.privacy.releases import evaluation_event, training_event
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from tasks import registry
from tests.client.data.clinical_facts import Person, Visit, write_omop
from tests.client.hospital import study
from tests.waiting import HUNG

PEOPLE = range(1, 61)
DELTA = 1e-5
OPTIONS: dict[str, dict[str, Any]] = {"readmission": {}, "chest_xray": {"model": "cnn"}}
DEAR, CHEAP = 2.0, 60.0
"""Noise multipliers."""


def hospital(folder: Path, *, indexed: bool) -> SiteConfig:
    """A site with both sources; with a patient index that knows both kinds of names, if wanted."""
    stay = Visit(
        "inpatient",
        "2020-03-01T08:00:00",
        "2020-03-06T08:00:00",
        diagnoses=(("ICD10CM", "E11.9", "2020-03-02"),),
    )
    later = Visit("outpatient", "2021-03-01T08:00:00", "2021-03-01T09:00:00")
    write_omop(
        folder / "omop", [Person(k, "male", "1950-06-15", visits=(stay, later)) for k in PEOPLE]
    )
    pictures = [Radiograph(f"MRN{k}", f"A{k}", k % 2 == 0, SCANNER_MODELS[0]) for k in PEOPLE]
    write(pictures, 64, 3, folder / "pacs")
    labels = [f"A{k},{k % 2}" for k in PEOPLE]
    (folder / "labels.csv").write_text("\n".join(["accession_number,pneumonia", *labels]) + "\n")
    index = [f"MRN{k},{k}" for k in PEOPLE]
    (folder / "mpi.csv").write_text("\n".join(["mrn,person", *index]) + "\n")
    identity = Identity.generate()
    identity.save(folder / "identity.pem")
    SiteState.create(folder / "state", "alpha", identity.public_key.hex()).close()
    plain: dict[str, Any] = {
        "site": "alpha",
        "identity": "identity.pem",
        "node_key": "node.pem",
        "coordinator": {"address": "localhost:9092", "root_certificate": "ca.pem"},
        "roster": {"alpha": identity.public_key.hex(), "beta": "ab" * 32, "gamma": "cd" * 32},
        "state": "state",
        "data": {
            "readmission": {"omop": {"folder": "omop"}, "view": "template:omop"},
            "chest_xray": {"files": {"labels": "labels.csv"}, "view": "template:dicom"},
        },
        "imaging": {"folders": ["pacs"], "workers": 1, "detect_text": False},
        "policy": {
            "tasks": list(OPTIONS),
            "purposes": ["research"],
            "modes": ["distributed"],
            "task_options": ["model"],
            "approval": "rule",
            "delta": DELTA,
            "epsilon_per_study": 1e3,
            "epsilon_lifetime": 1e3,
            "epsilon_broken": 1e4,
        },
    }
    if indexed:
        plain["data"]["readmission"]["names"] = "person"
        plain["data"]["chest_xray"]["names"] = "pacs"
        plain["patients"] = {
            "files": {"mpi": "mpi.csv"},
            "view": "SELECT mrn AS patient, person, pseudonym(mrn) AS pacs FROM mpi",
        }
    (folder / "site.yaml").write_text(yaml.safe_dump(plain))
    config = SiteConfig.load(folder / "site.yaml")
    assert config.imaging is not None
    with ImageIndex.open(config.state, config.imaging.gate) as opened:
        bring_up_to_date(opened, config.imaging.folders, workers=1)
    return config


def planned(task: str, training: float, evaluation: float) -> Study:
    """A study of one attempt that trains and one that evaluates, with these noise multipliers."""
    return study(
        task=registry.reference_to(registry.load(task, OPTIONS[task])),
        privacy__mode="distributed",
        privacy__noise_multiplier=training,
        privacy__sampling_rate=1.0,
        privacy__delta=DELTA,
        privacy__epsilon=1e3,
        optimisation={"rounds": 1},
        aggregation={"attempts": 2, "scale": 65536},
        evaluation={"noise_multiplier": evaluation},
    )


@dataclass(frozen=True)
class Spent:
    """Epsilon by the ledger; what the patient who lost most really lost; and what the ledger would
    say if both views were taken to name a patient alike."""

    ledger: float
    true: float
    as_one_name: float


def spend(folder: Path, *, indexed: bool) -> Spent:
    """Both studies, run to the end at the site; each patient's part as the cohorts have it."""
    config = hospital(folder, indexed=indexed)
    assert config.imaging is not None
    site = SiteGovernance(config, config.load_identity(), daemon=True)
    with ImageIndex.open(config.state, config.imaging.gate) as index:
        names = {
            "readmission": {k: f"MRN{k}" if indexed else f"{k}" for k in PEOPLE},
            "chest_xray": {k: f"MRN{k}" if indexed else index.names.of(f"MRN{k}") for k in PEOPLE},
        }
    noise = {"readmission": (DEAR, CHEAP), "chest_xray": (CHEAP, DEAR)}
    lost: dict[int, list[Event]] = {k: [] for k in PEOPLE}
    for task, (training, evaluation) in noise.items():
        wanted = planned(task, training, evaluation)
        assert site.propose(wanted) == ("accepted", None)
        places: dict[str, float] = {}

        def noted(name: str, places: dict[str, float] = places) -> float:
            return places.setdefault(name, site.state.split.place(name))

        load = loader(config, noted, lambda study, cohort: None, site.confirm_names)
        cohort = load(registry.load(task, OPTIONS[task]), wanted)
        assert sorted(cohort.u) == sorted(places[name] for name in names[task].values())
        site.debit(wanted, 1, 1, Sections(wanted, train=True, evaluate=False))
        site.debit(wanted, 2, 2, Sections(wanted, train=False, evaluate=True))
        site.close(wanted, "finished")
        trains, evaluates = training_event(wanted), evaluation_event(wanted)
        assert trains is not None
        assert evaluates is not None
        for k, name in names[task].items():
            lost[k].append(trains if places[name] < trains.band[1] else evaluates)
    ledger = budget(site.state, config.policy).spent
    site.audit.verify()
    with site.state.transaction() as db:
        db.execute("UPDATE studies SET names = 'one'")
    as_one_name = budget(site.state, config.policy).spent
    site.close_state()
    true = max(epsilon(events, DELTA) for events in lost.values())
    return Spent(ledger, true, as_one_name)


def test_no_study_is_debited_between_a_renaming_and_what_it_revokes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = hospital(tmp_path, indexed=True)
    site = SiteGovernance(config, config.load_identity(), daemon=True)
    one, other = planned("readmission", DEAR, CHEAP), planned("chest_xray", CHEAP, DEAR)
    for wanted in (one, other):
        assert site.propose(wanted) == ("accepted", None)
    site.confirm_names(one, {"readmission": {"a": "MRN1"}})
    codes: list[Code | None] = []

    def debit() -> None:
        try:
            site.debit(other, 1, 1, Sections(other, train=True, evaluate=False))
            codes.append(None)
        except WardroundError as error:
            codes.append(error.code)

    debiting = threading.Thread(target=debit, daemon=True)

    def recheck(**_: bool) -> tuple[str, ...]:
        debiting.start()
        debiting.join(1.0)
        site.approvals.revoke(other)
        return (other.title,)

    monkeypatch.setattr(site.approvals, "recheck", recheck)
    site.confirm_names(one, {"readmission": {"a": "MRN2"}})
    debiting.join(HUNG)
    site.close_state()
    assert codes == [Code.REVOKED]


def test_without_an_index_what_two_sources_spend_is_added_up(tmp_path: Path) -> None:
    spent = spend(tmp_path, indexed=False)
    assert spent.as_one_name < spent.true  # the premise: bands of one name would be optimistic
    assert spent.true <= spent.ledger * (1 + 1e-9)


def test_with_an_index_a_patient_is_in_one_band_of_both_sources(tmp_path: Path) -> None:
    spent = spend(tmp_path, indexed=True)
    assert spent.ledger == spent.as_one_name
    assert spent.true <= spent.ledger * (1 + 1e-9)
