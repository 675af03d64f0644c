"""A site whose rows are in PostgreSQL: when the server goes away, nothing is debited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client.cohorts.loading import loader
from client.config.known_roster import KnownRoster
from client.config.site_config import SiteConfig
from client.daemon.site import Site
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.governance import SiteGovernance
from launch.config.compose import load
from launch.studies.study_builder import build_study
from protocol.document import digest
from protocol.errors import Code
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.wire import messages
from tasks import registry
from tests.client.data.sources.databases.postgres_server import PASSWORD, USER, Server

TASK, SITE = "breast_cancer", "north"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    table = registry.load(TASK).public_sites(None)[SITE]
    names = list(table)
    kinds = ", ".join(
        f'"{name}" {"text" if values.dtype == object else "float8"}'
        for name, values in table.items()
    )
    rows = ", ".join(
        "(" + ", ".join(f"'{table[name][k]}'" for name in names) + ")"
        for k in range(len(table["patient"]))
    )
    script = server.folder / "rows.sql"
    script.write_text(f"CREATE TABLE records ({kinds}); INSERT INTO records VALUES {rows};")
    server.file(script)
    yield server
    server.remove()


def site_of(folder: Path, server: Server) -> tuple[Site, SiteGovernance, Study]:
    answers = SiteAnswers(
        site=SITE, data={TASK: folder / "unused.csv"}, tasks=(TASK,), purposes=("research",),
        modes=("distributed",), approval="rule", delta=1e-3, epsilon_per_study=100.0,
        epsilon_lifetime=500.0, epsilon_broken=900.0, threads=1,
    )  # fmt: skip
    new_site.init(folder / SITE, answers)
    password = folder / SITE / "ward.password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    path = folder / SITE / new_site.SITE_YAML
    text = path.read_text()
    old = f'files: {{records: "{folder / "unused.csv"}"}}\n    view: SELECT * FROM records'
    assert old in text
    ward = f"{{host: {server.folder}, database: postgres, user: {USER}, tls: disable,"
    ward += " password_file: ward.password}"
    new = f"databases: {{ward: {{postgres: {ward}}}}}\n    view: SELECT * FROM ward.records"
    path.write_text(text.replace(old, new))
    config = SiteConfig.load(path)
    tables = registry.load(TASK).public_sites(None)
    roster = dict(config.roster)
    for name in tables:
        roster.setdefault(name, Identity.generate().public_key.hex())
    config = config.model_copy(update={"roster": roster})
    overrides = [f"task={TASK}", "privacy=distributed", "privacy.epsilon=20", "privacy.delta=1e-3",
                 "federation=deployment", "tracking=off", "rounds=3"]  # fmt: skip
    patients = {name: max(20, len(t["patient"]) * 6 // 10) for name, t in tables.items()}
    study = build_study(load(overrides), registry.load(TASK), patients)
    governance = SiteGovernance(config, config.load_identity())
    cohorts = loader(config, governance.state.split.place, lambda study, cohort: None)
    return (
        Site(SITE, config.load_identity(), KnownRoster(roster), governance, cohorts),
        governance,
        study,
    )


def debits(governance: SiteGovernance) -> int:
    with governance.state.reading() as db:
        return int(db.execute("SELECT count(*) FROM debits").fetchone()[0])


def test_a_server_that_is_away_costs_no_privacy_and_the_study_goes_on_when_it_is_back(
    tmp_path: Path, server: Server
) -> None:
    site, governance, study = site_of(tmp_path, server)
    propose = messages.Propose(document=study.document.decode())
    standing = messages.parse(site.answer(messages.frame(propose)))
    assert isinstance(standing, messages.Standing)
    assert standing.state == "accepted"
    weights = np.zeros(study.model.parameters, np.float32).tobytes()
    prepare = messages.Prepare(
        study=study.digest, round=1, attempt=1, train=True, evaluate=False, model=digest(weights)
    )

    server.stop()
    refusal = messages.parse(site.answer(messages.frame(prepare, [weights])))
    assert refusal == messages.Refusal(study=study.digest, code=Code.NO_DATA)
    assert debits(governance) == 0

    server.start()
    ready = messages.parse(site.answer(messages.frame(prepare, [weights])))
    assert isinstance(ready, messages.Ready)
    assert debits(governance) == 1
    governance.close_state()
    for file in (tmp_path / SITE).rglob("*"):
        if file.is_file() and file.name != "ward.password":
            assert PASSWORD.encode() not in file.read_bytes()
