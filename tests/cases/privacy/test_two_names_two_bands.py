"""The ledger covers a patient whom two views of one site name differently.

Kind of fault: a patient's place u in [0, 1) is an HMAC of the name, and epsilon is composed side
by side over bands of u. That rests on one name for a patient in all views of a site: where nobody
is sure of that, a patient of two names stands in two bands, and the ledger must count both.
"""

from __future__ import annotations

from dataclasses import replace

from client.governance.patient_split import PatientSplit
from protocol.privacy.accounting import Event, calibrate, epsilon, epsilon_over_bands

_DELTA = 1e-5
_LOW, _HIGH = (0.0, 0.5), (0.5, 1.0)
_PATIENTS = 2000


def test_two_names_of_a_patient_often_stand_in_different_bands() -> None:
    """The premise, not a fault: a place says nothing of who bears the name."""
    split = PatientSplit(bytes(range(32)))
    apart = sum(
        (split.place(f"MRN-{patient}") < 0.5) != (split.place(f"pseudonym-{patient}") < 0.5)
        for patient in range(_PATIENTS)
    )
    assert 0.4 < apart / _PATIENTS < 0.6


def test_the_ledger_covers_a_patient_who_trains_under_both_names() -> None:
    training = Event("skellam", 1, 1.0, 1, dimension=30, scale=65536.0, rounding="patient")
    training = replace(training, noise_multiplier=calibrate(3.0, _DELTA, training))
    scoring = Event("skellam", 60.0, 1.0, 1, dimension=64, scale=256.0, rounding="none")
    # Each study is on one view, trains on one band and scores on the other.
    first = (replace(training, band=_LOW), replace(scoring, band=_HIGH))
    second = (
        replace(scoring, dimension=30, scale=65536.0, band=_LOW),
        replace(training, dimension=64, rounding="none", band=_HIGH),
    )
    ledger = epsilon_over_bands([*first, *second], _DELTA)
    in_both = epsilon([first[0], second[1]], _DELTA)
    assert ledger >= in_both - 1e-6
