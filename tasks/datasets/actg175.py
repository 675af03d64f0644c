"""ACTG 175, a trial of treatments of HIV, and patients of nobody who are like them.

Hammer et al. 1996, "A trial comparing nucleoside monotherapy with combination therapy in
HIV-infected adults with CD4 cell counts from 200 to 500 per cubic millimeter" (New England Journal
of Medicine 335, 1081-1090); 2,139 patients, as the package lifelines ships them. The event is a CD4
count that has halved, AIDS, or death; times are days from randomisation.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base import Download
from tasks.datasets import dealing
from tasks.datasets.downloads import published
from tasks.schema import PATIENT, Table

DOWNLOAD = Download(
    "https://files.pythonhosted.org/packages/8a/fb/"
    "5ed80a8932630d4ae33af186a87008c9b48f02bc515380acc1a4b1fec162/"
    "lifelines-0.30.3-py3-none-any.whl",
    "56fba31fa0d7bfbff9667b7149fd96a97c352e72aa582871a62a935e812f0e07",
    "ACTG175.csv",
    member="lifelines/datasets/ACTG175.csv",
    folder="actg175",
)
ARMS = ("zidovudine", "zidovudine_didanosine", "zidovudine_zalcitabine", "didanosine")
NUMBERS = {
    "age": "age",
    "weight": "wtkg",
    "karnofsky": "karnof",
    "cd4": "cd40",
    "cd8": "cd80",
    "treated_days": "preanti",
}
"""Column -> the file's own."""
FLAGS = {
    "haemophilia": "hemo",
    "homosexual_activity": "homo",
    "injected_drugs": "drugs",
    "other_treatment": "oprior",
    "recent_zidovudine": "z30",
    "symptoms": "symptom",
}
DAYS, EVENT = "days", "event"
_SHARES = {"east": 0.4, "north": 0.35, "south": 0.25}
_SEED, _INVENTED = 175, 2139


def sites(root: Path | None, task: str) -> dict[str, Table]:
    """Three simulated sites, of 856, 748 and 535 patients; who is where follows from the patient's
    number. Raises WardroundError: NO_DATA without the file, MALFORMED_DATA where it differs."""
    text = published(root, DOWNLOAD, task).decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))

    def column(name: str) -> npt.NDArray[np.float64]:
        return np.array([float(row[name]) for row in rows])

    patients = np.array([f"actg175-{row['pidnum']}" for row in rows], dtype=object)
    table: dict[str, npt.NDArray[Any]] = {PATIENT: patients}
    table |= {name: column(source) for name, source in NUMBERS.items()}
    table |= {name: _words(column(source) == 1) for name, source in FLAGS.items()}
    table["sex"] = np.where(column("gender") == 1, "male", "female").astype(object)
    table["arm"] = np.array(ARMS, dtype=object)[column("arms").astype(int)]
    return dealing.dealt(table | {DAYS: column("days"), EVENT: column("cens")}, _SHARES)


def generated() -> dict[str, Table]:
    """As many patients of nobody at the same sites. A low CD4 count, symptoms and the first arm
    raise the hazard; follow-up ends at random. Figures on them say how a method works, and nothing
    about HIV."""
    draw = np.random.default_rng(_SEED)
    patients = np.array([f"nobody-{row:04d}" for row in range(_INVENTED)], dtype=object)
    drawn = {
        "age": draw.normal(35, 9, _INVENTED).clip(13, 70).round(),
        "weight": draw.normal(75, 13, _INVENTED).clip(35, 150),
        "karnofsky": draw.choice([70.0, 80, 90, 100], _INVENTED, p=[0.02, 0.05, 0.35, 0.58]),
        "cd4": draw.normal(350, 115, _INVENTED).clip(50, 1000).round(),
        "cd8": draw.lognormal(6.8, 0.45, _INVENTED).round(),
        "treated_days": draw.choice([0.0, 1], _INVENTED) * draw.exponential(700, _INVENTED).round(),
    }
    shares = dict.fromkeys(FLAGS, 0.15) | {"homosexual_activity": 0.66, "recent_zidovudine": 0.55}
    flags = {name: draw.random(_INVENTED) < share for name, share in shares.items()}
    arm = draw.integers(len(ARMS), size=_INVENTED)
    log_hazard = (
        -8.4
        - 0.6 * (drawn["cd4"] - 350) / 115
        + 0.25 * (drawn["cd8"] - 950) / 450
        + 0.5 * flags["symptoms"]
        + 0.5 * (arm == 0)
        + 0.01 * (drawn["age"] - 35)
    )
    came = draw.exponential(np.exp(-log_hazard))
    followed = draw.uniform(400, 1231, _INVENTED)
    table = {PATIENT: patients, **drawn, **{name: _words(of) for name, of in flags.items()}}
    table["sex"] = np.where(draw.random(_INVENTED) < 0.83, "male", "female").astype(object)
    table["arm"] = np.array(ARMS, dtype=object)[arm]
    days = np.minimum(came, followed).round()
    return dealing.dealt(table | {DAYS: days, EVENT: (came <= followed).astype(float)}, _SHARES)


def _words(flags: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    return np.where(flags, "yes", "no").astype(object)
