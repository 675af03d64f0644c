"""An exact regression in a real deployment: a coordinator over TLS, four daemons with ledgers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.config.site_config import SiteConfig
from client.enrolment import join, new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.database import SiteState
from client.governance.exact_releases import counted_exactly
from launch.federations.deployment import RemoteFederation
from launch.queries.ask import Where, ask
from launch.queries.exact_analyses import exact_glm
from launch.queries.query_builder import Price
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.statistics.results import Figure
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.coordinator.setup import bundle
from server.enrolment.roster import Roster
from tasks import registry
from tests.client.daemon_federation import write_csv
from tests.client.daemon_process import Daemon
from tests.launch.queries.test_exact_analyses import REFERENCES
from tests.server.hospitals import credentials, new_coordinator
from tests.waiting import until

TASK, ITERATES = "breast_cancer", 8
RULES: dict[str, Any] = {
    "tasks": (TASK,),
    "purposes": ("research",),
    "modes": ("distributed",),
    "approval": "rule",
    "delta": 1e-5,
    "epsilon_per_study": 2.0,
    "epsilon_lifetime": 10.0,
    "epsilon_broken": 100.0,
    "exact_releases": ITERATES + 2,
    "threads": 1,
}


@dataclass
class Federation:
    folder: Path
    credentials: Path
    sites: tuple[str, ...]

    def counted(self, site: str) -> int:
        """Exact releases in a site's ledger."""
        config = SiteConfig.load(self.folder / site / new_site.SITE_YAML)
        state = SiteState.open(config.state, site, config.load_identity().public_key.hex())
        try:
            with state.reading() as db:
                return counted_exactly(db)[0]
        finally:
            state.close()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("exact")
    config = new_coordinator(folder / "coordinator")
    tables = registry.load(TASK).public_sites(None)
    roster = Roster(config.roster)
    for site, table in tables.items():
        write_csv(table, folder / f"{site}.csv")
        answers = SiteAnswers(site=site, data={TASK: folder / f"{site}.csv"}, **RULES)
        roster.add(new_site.card(new_site.init(folder / site, answers)), len(table["patient"]))
        path = folder / site / new_site.SITE_YAML
        allowed = "queries: [count, histogram, table]"
        path.write_text(path.read_text().replace("queries: []", allowed))
    ending, daemons = threading.Event(), []
    with Coordinator(config, Journal(config.event_log, console=None)) as coordinator:
        serving = threading.Thread(target=coordinator.serve, args=(ending,))
        serving.start()
        try:
            brought = folder / "bundle.json"
            brought.write_text(json.dumps(bundle(config) | {"coordinator": coordinator.address}))
            for site in tables:
                path = folder / site / new_site.SITE_YAML
                join.join(join.compare(path, join.FederationBundle.load(brought)))
                daemons.append(Daemon(folder / site))
            account = credentials(config, coordinator.address, "ada")
            with RemoteFederation(account) as remote:
                until(
                    lambda: all(s["online"] for s in remote.federation()["sites"].values()),
                    "online",
                )
            yield Federation(folder, account, tuple(tables))
        finally:
            for daemon in daemons:
                daemon.stop()
            ending.set()
            serving.join()


def test_an_exact_regression_over_tls(federation: Federation) -> None:
    question = exact_glm(
        Question.about(TASK), "malignant = 1 ~ mean_texture * mean_smoothness", iterates=ITERATES
    )
    where = Where(credentials=federation.credentials)
    answered = ask(question, Price(epsilon=1.0), where)
    assert answered.analysis is not None
    rows = answered.analysis.tables[0].rows
    cells = [row.cells[1] for row in rows]
    found = [cell.value for cell in cells if isinstance(cell, Figure)]
    assert found == pytest.approx(REFERENCES["binomial"]["coefficients"], rel=1e-8)
    assert answered.outcome.epsilon == pytest.approx(1.0, rel=1e-3)
    (sums,) = (r.cells for r in answered.analysis.tables[1].rows if r.label == "exact sums")
    for site in federation.sites:
        assert Figure(float(federation.counted(site))) == sums[0]
    # what is left does not pay for a second one
    with pytest.raises(WardroundError) as caught:
        ask(question, Price(epsilon=1.0), where)
    assert caught.value.code is Code.TOO_FEW_SITES
    assert "exact_releases" in str(caught.value)
