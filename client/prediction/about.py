"""Whom a report that waits is about: a keyed hash, by which those of who objects are found."""

from __future__ import annotations

from collections.abc import Iterable

from client.cohorts.loading import objecting_names
from client.config.site_config import SiteConfig
from client.governance.patient_split import PatientSplit

_WORD = "report"


def about(config: SiteConfig, patients: Iterable[str]) -> list[bytes]:
    """(16 bytes) each. Raises WardroundError(STATE) where the site's secret cannot be read."""
    split = PatientSplit.load(config.state)
    return [split.name(_WORD, patient) for patient in patients]


def objecting(config: SiteConfig) -> list[bytes]:
    """Of those who object, by each of their names. Raises WardroundError where the list of
    objections cannot be read."""
    return about(config, objecting_names(config))
