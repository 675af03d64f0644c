"""A query in a real deployment: a coordinator over TLS, four daemons, one of which allows none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.config.site_config import SiteConfig
from client.enrolment import join, new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.budget import budget, history
from client.governance.database import SiteState
from launch.cli.main import app
from launch.federations.deployment import RemoteFederation
from launch.queries.ask import Where, ask
from launch.queries.query_builder import Price
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.privacy.discrete_laplace import tail
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.coordinator.setup import bundle
from server.enrolment.roster import Roster
from tasks import registry
from tests.client.daemon_federation import write_csv
from tests.client.daemon_process import Daemon
from tests.server.hospitals import credentials, new_coordinator
from tests.waiting import until

TASK, REFUSES = "breast_cancer", "west"
ALLOWED = ("east", "north", "south")
EPSILON = 5.0
RULES: dict[str, Any] = {
    "tasks": (TASK,),
    "purposes": ("research",),
    "modes": ("distributed",),
    "approval": "rule",
    "delta": 1e-5,
    "epsilon_per_study": EPSILON,
    "epsilon_lifetime": 50.0,
    "epsilon_broken": 100.0,
    "threads": 1,
}


@dataclass
class Federation:
    folder: Path
    credentials: Path
    patients: dict[str, int]

    def state(self, site: str) -> tuple[SiteConfig, SiteState]:
        config = SiteConfig.load(self.folder / site / new_site.SITE_YAML)
        key = config.load_identity().public_key.hex()
        return config, SiteState.open(config.state, site, key)

    def spent(self, site: str) -> tuple[float, list[Any]]:
        """Epsilon debited at the site, and every debit."""
        config, state = self.state(site)
        try:
            return budget(state, config.policy).spent, list(history(state))
        finally:
            state.close()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("query")
    config = new_coordinator(folder / "coordinator")
    tables = registry.load(TASK).public_sites(None)
    roster = Roster(config.roster)
    for site, table in tables.items():
        write_csv(table, folder / f"{site}.csv")
        made = new_site.init(
            folder / site, SiteAnswers(site=site, data={TASK: folder / f"{site}.csv"}, **RULES)
        )
        roster.add(new_site.card(made), len(table["patient"]))
        if site != REFUSES:
            path = folder / site / new_site.SITE_YAML
            path.write_text(path.read_text().replace("queries: []", "queries: [count, table]"))
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
            patients = {site: len(set(t["patient"].tolist())) for site, t in tables.items()}
            yield Federation(folder, account, patients)
        finally:
            for daemon in daemons:
                daemon.stop()
            ending.set()
            serving.join()


def test_sites_that_allow_it_answer_together_and_the_others_are_left_out(
    federation: Federation,
) -> None:
    question = Question.about(TASK).count().table("malignant", "mean_texture:2")
    where = Where(credentials=federation.credentials)
    before = {site: federation.spent(site)[0] for site in ALLOWED}
    answered = ask(question, Price(epsilon=EPSILON), where)
    truth = sum(federation.patients[site] for site in ALLOWED)
    # three of the four sites, of which one may collude; false alarm 1e-9
    within = tail(EPSILON / 2, 1.0, 3 / 2, 1e-9)
    (patients,) = answered["patients"].counts
    assert patients is not None
    assert abs(patients - truth) < within
    table = answered["malignant by mean_texture"].counts
    assert len(table) == 9
    assert abs(sum(count or 0 for count in table) - truth) < 9 * max(within, 10)
    assert answered.outcome.epsilon == pytest.approx(EPSILON, rel=1e-3)
    asked = answered.outcome.study.digest
    for site in ALLOWED:
        spent, debits = federation.spent(site)
        assert spent == pytest.approx(before[site] + EPSILON, rel=1e-2)
        (debit,) = (debit for debit in debits if debit.study == asked)
        assert (debit.part, debit.count) == ("evaluate", 1)
        assert debit.event is not None
        assert (debit.event.mechanism, debit.event.count) == ("laplace", 2)
        assert debit.event.epsilon == pytest.approx(EPSILON / 2, rel=1e-3)
    assert federation.spent(REFUSES) == (0.0, [])


def test_an_analysis_is_allowed_debited_and_summed_as_the_table_it_is_read_off(
    federation: Federation, tmp_path: Path
) -> None:
    """By the command, through the coordinator and back, with the figures in all its files."""
    before = {site: federation.spent(site)[0] for site in ALLOWED}
    run = CliRunner().invoke(
        app,
        [
            *("analyse", "survival", "--task", TASK, "--time", "mean_radius:4", "--json"),
            *("--event", "malignant = 1", "--by", "mean_texture > 20", "--epsilon", "2"),
            *("--credentials", str(federation.credentials), "--output", str(tmp_path / "outputs")),
            *("--html", str(tmp_path / "page.html"), "--csv", str(tmp_path / "figures.csv")),
        ],
    )
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    for site in ALLOWED:
        spent, debits = federation.spent(site)
        assert spent == pytest.approx(before[site] + 2.0, rel=1e-2)
        (debit,) = (debit for debit in debits if debit.study == found["study"])
        assert debit.event is not None
        assert (debit.part, debit.count, debit.event.count) == ("evaluate", 1, 1)
    (folder,) = (tmp_path / "outputs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["analysis"] == found["analysis"]
    shares, at_risk, totals, test = found["analysis"]["tables"]
    assert shares["columns"] == ["mean_texture > 20", "not (mean_texture > 20)"]
    patients = sum(cell["value"] for cell in totals["rows"][0]["cells"])
    truth = sum(federation.patients[site] for site in ALLOWED)
    assert abs(patients - truth) < 20 * tail(2.0, 1.0, 3 / 2, 1e-9)
    assert 0 <= test["rows"][0]["cells"][2]["value"] <= 1
    assert "<polyline" in (tmp_path / "page.html").read_text()
    rows = (tmp_path / "figures.csv").read_text().splitlines()
    assert len(rows) > len(at_risk["rows"]) + len(shares["rows"])


def test_one_is_told_beforehand_who_would_answer_and_by_which_rule_not(
    federation: Federation,
) -> None:
    before = {site: federation.spent(site) for site in (*ALLOWED, REFUSES)}
    run = CliRunner().invoke(
        app,
        f"query count --task {TASK} --credentials {federation.credentials} --dry-run --epsilon 1",
    )
    assert run.exit_code == 0, run.output
    said = " ".join(run.output.split())
    assert "epsilon 1.000 at delta 1e-05" in said
    assert "3 sites: accepted" in said
    assert "1 refuse by policy.queries" in said
    assert {site: federation.spent(site) for site in (*ALLOWED, REFUSES)} == before


def test_where_the_statistic_is_allowed_nowhere_the_query_fails_and_costs_nothing(
    federation: Federation,
) -> None:
    before = {site: federation.spent(site)[0] for site in ALLOWED}
    with pytest.raises(WardroundError) as caught:
        ask(Question.about(TASK).mean("mean_texture"), where=Where(federation.credentials))
    assert caught.value.code is Code.TOO_FEW_SITES
    assert "4 refused (refused_policy)" in caught.value.message
    assert {site: federation.spent(site)[0] for site in ALLOWED} == before


def test_the_command_leaves_json_a_page_and_a_summary(
    federation: Federation, tmp_path: Path
) -> None:
    run = CliRunner().invoke(
        app,
        f"query count --task {TASK} --where 'malignant = 1' --epsilon 2 --json"
        f" --credentials {federation.credentials} --output {tmp_path / 'outputs'}"
        f" --html {tmp_path / 'page.html'}",
    )
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    (answer,) = found["answers"]
    assert answer["rows"][0]["label"] == ["patients"]
    (folder,) = (tmp_path / "outputs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["answers"] == found["answers"]
    assert (summary["study"], summary["rounds"]) == (found["study"], 0)
    page = (tmp_path / "page.html").read_text()
    assert found["study"] in page
    assert "<svg" in page
