"""A federation on this machine, set up as a real one is, but for the telephone.

The demo, the benchmarks and the tests all use it: consortium, invitations, cards, roster, bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from client.config.site_config import SiteConfig
from client.enrolment import join, new_site
from launch.demo.local_ports import LOOPBACK, free_port
from server.coordinator.config import CoordinatorConfig
from server.coordinator.setup import bundle, enrol_waiting, set_up
from server.enrolment.consortium import Consortium, CoordinatorPlace
from server.enrolment.invitations import Invitations

ACCOUNT = "demo"
CREDENTIALS = f"{ACCOUNT}.credentials.json"
BUNDLE = "bundle.json"


def federate(
    folder: Path, patients: Mapping[str, int], mlflow: str | None = None
) -> CoordinatorConfig:
    """Makes `folder`/coordinator, and enrols and joins the sites that are in `folder`/SITE.

    patients: site -> what it declares. Beside them lie BUNDLE and the CREDENTIALS of an account.
    Raises WardroundError.
    """
    place = CoordinatorPlace(hosts=[LOOPBACK, "localhost"], port=free_port(), mlflow=mlflow)
    consortium = Consortium(coordinator=place, hospitals=dict(patients), data_scientists=[ACCOUNT])
    set_up(consortium, folder / "coordinator", folder)
    config = CoordinatorConfig.load(folder / "coordinator")
    for site in patients:
        card = new_site.card(SiteConfig.load(folder / site / new_site.SITE_YAML))
        Invitations(config.invitations).hand_in(site, card)
    enrol_waiting(config, lambda site, card: None)
    (folder / BUNDLE).write_text(json.dumps(bundle(config)))
    for site in patients:
        rules = folder / site / new_site.SITE_YAML
        join.join(join.compare(rules, join.FederationBundle.load(folder / BUNDLE)))
    return config
