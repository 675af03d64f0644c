"""What a person does wrong, as that person sees it: one message with cause and remedy, an exit
status for scripts, no traceback, and nothing half-done. Real console scripts, real processes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from client.config.site_config import SiteConfig
from client.enrolment import join, new_site
from client.enrolment.site_template import SiteAnswers
from launch.demo.demo import wait_for
from launch.demo.hospitals import write_csv
from launch.demo.local_ports import free_port
from protocol.errors import EXIT_STATUS, Code
from protocol.wire.enrolment import EnrolmentCard
from server.coordinator.config import CoordinatorConfig
from server.coordinator.setup import authority, bundle, create
from server.enrolment.accounts import Accounts, Credentials, issue
from server.enrolment.certificates import Pki
from server.enrolment.roster import Roster
from tasks import registry
from tests import forked
from tests.waiting import until

SCRIPTS = Path(sys.executable).parent
TASKS = ("breast_cancer", "plugged")
_PLUG_IN = '''"""A hospital network's own tasks."""

from torch import Tensor

from tasks.shipped.breast_cancer import BreastCancer


class Plugged(BreastCancer):
    name = "plugged"


class Exploding(BreastCancer):
    name = "exploding"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return 1e12 * (outputs[:, 0] + 2 - 4 * labels) ** 4
'''


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    def blames(self, code: Code, *words: str, remedy: str, status: Code | None = None) -> None:
        """The message names code, cause and remedy; the status is the catalogue's."""
        assert self.status == EXIT_STATUS[status or code], self
        assert code.value in self.err, self
        for word in (*words, remedy):
            assert word in self.err, (word, self)
        assert "Traceback" not in self.err, self
        assert len(self.err.splitlines()) <= 8, self


def run(script: str, *words: str | Path, cwd: Path, path: Path | None = None) -> Said:
    """One console script to its end, in an empty environment of ours."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WARDROUND", "MLFLOW"))}
    env |= {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = forked.run([SCRIPTS / script, *words], cwd, env)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """An empty working folder, which has to be as empty afterwards."""
    folder = tmp_path / "here"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == [], "something half-done was left"


# --- words ---
@pytest.mark.parametrize(
    ("words", "code", "cause", "remedy"),
    [
        (("run", "task=hart_disease"), Code.CONFIGURATION, "task/hart_disease", "heart_disease?"),
        (("run", "privacy.epsilom=1"), Code.CONFIGURATION, "'privacy.epsilom'", "privacy.epsilon?"),
        (("run", "privacy=locl"), Code.CONFIGURATION, "privacy/locl", "Did you mean local?"),
        (("run", "rounds=many"), Code.CONFIGURATION, "rounds: Value 'many'", "run --info"),
        (("run", "rounds"), Code.CONFIGURATION, "rounds", "run --info"),
        (("demo", "--task", "hart_disease"), Code.UNKNOWN_TASK, "hart_disease", "heart_disease?"),
        (
            ("run", "privacy.epsilon=1e-6", "rounds=2"),
            Code.EPSILON_UNREACHABLE,
            "Epsilon 1e-06",
            "larger epsilon",
        ),
        (
            ("run", "federation=deployment"),
            Code.CREDENTIALS,
            "needs a coordinator's credentials",
            "account add",
        ),
        (
            ("run", "tracking.uri=http://127.0.0.1:9", "rounds=2"),
            Code.TRACKING,
            "http://127.0.0.1:9",
            "tracking=off",
        ),
        (("run", "output=/proc/none"), Code.USAGE, "/proc/none", "Set output"),
    ],
)
def test_words_that_mean_nothing(
    here: Path, words: tuple[str, ...], code: Code, cause: str, remedy: str
) -> None:
    run("wardround", *words, cwd=here).blames(code, cause, remedy=remedy)


@pytest.mark.parametrize(
    ("script", "words", "cause"),
    [
        ("wardround", ("frobnicate",), "frobnicate"),
        ("wardround", ("run", "--fast"), "--fast"),
        ("wardround-site", ("strat",), "strat"),
        ("wardround-site", ("start", "--lgo", "json"), "--lgo"),
    ],
)
def test_commands_and_options_that_are_not_there(
    here: Path, script: str, words: tuple[str, ...], cause: str
) -> None:
    said = run(script, *words, cwd=here)
    assert said.status == 2
    assert cause in said.err
    assert "--help" in said.err
    assert "Traceback" not in said.err


def test_a_model_that_diverges_is_said_and_leaves_no_result(here: Path, plug_in: Path) -> None:
    said = run(
        "wardround", "run", "task=exploding", "privacy=none", "rounds=5", cwd=here, path=plug_in
    )
    said.blames(Code.DIVERGED, "diverged", remedy="local_lr")


# --- a deployment of three hospitals, each with something wrong ---
@pytest.fixture(scope="module")
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugged(tmp_path_factory.mktemp("plug-in"), "")


def plugged(folder: Path, more: str) -> Path:
    """A folder for PYTHONPATH with an installed plug-in."""
    (folder / "plugged.py").write_text(_PLUG_IN + more)
    info = folder / "plugged-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    points = "[wardround.tasks]\nplugged = plugged:Plugged\nexploding = plugged:Exploding\n"
    (info / "entry_points.txt").write_text(points)
    return folder


@dataclass
class Federation:
    """A running coordinator with enrolled sites. `east`'s data is cut short; `south` has the
    plug-in with one byte more."""

    folder: Path
    coordinator: CoordinatorConfig
    credentials: Path
    plug_in: Path
    other_plug_in: Path
    running: dict[str, forked.Python] = field(default_factory=dict)

    def studies(self) -> list[str]:
        """Folders of studies at the coordinator."""
        return sorted(path.name for path in (self.coordinator.state / "studies").iterdir())

    def run(self, *words: str, cwd: Path, path: Path | None = None) -> Said:
        """`wardround run` against it."""
        where = ("federation=deployment", f"federation.credentials={self.credentials}")
        return run("wardround", "run", *where, *words, cwd=cwd, path=path or self.plug_in)

    def site_log(self, site: str) -> str:
        return (self.folder / f"{site}.log").read_text()


def site(folder: Path, name: str, data: Mapping[str, Path]) -> None:
    new_site.init(
        folder / name,
        SiteAnswers(
            site=name,
            data=data,
            tasks=tuple(data),
            purposes=("research",),
            modes=("none",),
            approval="rule",
            exact_evaluation=True,
            public_data=tuple(data),
            threads=1,
        ),
    )


def made(folder: Path, mlflow: str | None = None) -> CoordinatorConfig:
    return create(folder, ["127.0.0.1"], free_port(), mlflow, "Test")


def account(config: CoordinatorConfig, path: Path, **changes: str) -> Path:
    """A credentials file, with something else in it than the coordinator gave."""
    token = Accounts(config.accounts).add(path.stem)
    given = {"coordinator": config.address, "ca": authority(config.pki)}
    given |= {"account": path.stem, "token": token}
    issue(path, Credentials.model_validate(given | changes))
    return path


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, plug_in: Path) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("federation")
    config = made(folder / "coordinator")
    roster = Roster(config.roster)
    tables = registry.load("breast_cancer").public_sites(None)
    names = ("east", "north", "south")
    for name in names:
        whole, cut = folder / f"{name}.csv", folder / f"{name}-cut.csv"
        write_csv(tables[name], whole)
        cut.write_bytes(whole.read_bytes()[:3000])
        site(folder, name, {"breast_cancer": cut if name == "east" else whole, "plugged": whole})
        card = json.loads((run("wardround-site", "enrol", "--config", name, cwd=folder)).out)
        roster.add(EnrolmentCard.model_validate(card), 50)
    (folder / "bundle.json").write_text(json.dumps(bundle(config)))
    for name in names:
        given = join.FederationBundle.load(folder / "bundle.json")
        join.join(join.compare(folder / name / new_site.SITE_YAML, given))
    (folder / "other").mkdir()
    made_ = Federation(
        folder,
        config,
        account(config, folder / "ada.json"),
        plug_in,
        plugged(folder / "other", "#"),
    )
    with ExitStack() as stack:
        for name, words in (
            ("coordinator", [SCRIPTS / "wardround", "coordinator", "start", config.folder]),
            *((n, [SCRIPTS / "wardround-site", "start", "--config", folder / n]) for n in names),
        ):
            path = made_.other_plug_in if name == "south" else plug_in
            env = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
            log = folder / f"{name}.log"
            said = [str(word) for word in words]
            process = forked.Python(said, folder, log, log, env)
            stack.callback(process.stop)
            made_.running[name] = process
        wait_for(config, folder / "coordinator.log")
        until(
            lambda: all("connected" in made_.site_log(name) for name in names),
            "all hospitals are connected",
        )
        yield made_
        assert all(process.running for process in made_.running.values()), "bad input ended one"


def test_data_cut_short_at_a_hospital_is_said_to_both_ends(
    federation: Federation, here: Path
) -> None:
    said = federation.run("privacy=none", "rounds=2", cwd=here)
    said.blames(Code.TOO_FEW_SITES, "malformed_data", remedy="wardround-site")
    log = federation.site_log("east")
    assert "east-cut.csv, line" in log
    assert "columns instead of" in log
    check = run("wardround-site", "check", "--config", "east", cwd=federation.folder)
    assert check.status == EXIT_STATUS[Code.MALFORMED_DATA]
    assert "FAIL  data of breast_cancer" in check.out
    assert "Correct or re-export the file" in check.out


def test_a_study_that_differs_by_one_byte_is_refused_by_the_coordinator(
    federation: Federation, here: Path
) -> None:
    before = federation.studies()
    said = federation.run(
        "task=plugged", "privacy=none", "rounds=2", cwd=here, path=federation.other_plug_in
    )
    said.blames(Code.TASK_CHANGED, "plugged installed here differs", remedy="Install the same")
    assert federation.studies() == before


def test_a_study_that_differs_by_one_byte_is_refused_by_a_hospital(
    federation: Federation, here: Path
) -> None:
    said = federation.run("task=plugged", "privacy=none", "rounds=2", cwd=here)
    said.blames(Code.TOO_FEW_SITES, "1 refused (task_changed)", remedy="wardround-site")
    assert "plugged installed here differs from the study's" in federation.site_log("south")


def test_a_study_that_no_policy_accepts_says_which_rules_of_how_many_sites(
    federation: Federation, here: Path
) -> None:
    words = ("privacy=distributed", "privacy.epsilon=2", "rounds=2", "purpose=marketing")
    said = federation.run(*words, cwd=here)
    said.blames(
        Code.TOO_FEW_SITES,
        "0 of 3 sites take part",
        "No site's policy accepts the study: policy.epsilon_per_study (3 sites), "
        "policy.modes (3 sites), policy.purposes (3 sites).",
        remedy="wardround-site studies",
    )
    assert not any(name in said.err for name in ("east", "north", "south"))


def test_a_plan_asks_every_policy_and_no_site_records_a_study(
    federation: Federation, here: Path
) -> None:
    def studies() -> list[str]:
        return [
            run("wardround-site", "studies", "--json", "--config", name, cwd=federation.folder).out
            for name in ("east", "north", "south")
        ]

    def planned(*words: str) -> dict[str, Any]:
        where = ("federation=deployment", f"federation.credentials={federation.credentials}")
        said = run("wardround", "plan", "--json", *where, *words, cwd=here, path=federation.plug_in)
        assert said.status == 0, said
        found: dict[str, Any] = json.loads(said.out)
        return found

    before, submitted = studies(), federation.studies()
    good = planned("privacy=none", "rounds=2")
    assert good["answers"] == {
        "accepted": 3,
        "waiting": 0,
        "refused": 0,
        "away": 0,
        "rules": {},
        "codes": {},
    }
    assert good["patients"] == {"east": 50, "north": 50, "south": 50}
    assert (good["epsilon"], good["traffic"]["to_site"] > 1000) == (None, True)
    bad = planned("privacy=local", "privacy.epsilon=2", "rounds=2", "local_steps=2")
    assert bad["answers"]["refused"] == 3
    assert bad["answers"]["rules"] == {"modes": 3, "epsilon_per_study": 3}
    other = planned("task=plugged", "privacy=none", "rounds=2")
    assert (other["answers"]["accepted"], other["answers"]["codes"]) == (2, {"task_changed": 1})
    assert studies() == before
    assert federation.studies() == submitted
    verified = run("wardround-site", "audit", "verify", "--config", "north", cwd=federation.folder)
    assert verified.status == 0, verified


@pytest.mark.parametrize("wrong", ["token", "ca", "coordinator"])
def test_wrong_credentials(federation: Federation, here: Path, tmp_path: Path, wrong: str) -> None:
    pki = Pki(tmp_path / "other")
    pki.create("Other", ["127.0.0.1"])
    changes = {
        "token": "x" * 43,
        "ca": pki.ca_certificate.read_text(),
        "coordinator": f"127.0.0.1:{free_port()}",
    }
    path = account(
        federation.coordinator, tmp_path / f"wrong-{wrong}.json", **{wrong: changes[wrong]}
    )
    before = federation.studies()
    words = ["federation=deployment", f"federation.credentials={path}", "privacy=none"]
    said = run("wardround", "run", *words, cwd=here)
    code, remedy = {
        "token": (Code.CREDENTIALS, "account add"),
        "ca": (Code.TLS, str(path)),
        "coordinator": (Code.UNREACHABLE, "wardround coordinator status"),
    }[wrong]
    said.blames(code, changes["coordinator"] if wrong == "coordinator" else "127", remedy=remedy)
    assert federation.studies() == before


def test_a_site_with_another_authority_or_another_key_is_told_at_the_keyboard(
    federation: Federation, tmp_path: Path
) -> None:
    other = made(tmp_path / "other")
    site(tmp_path, "stray", {"breast_cancer": federation.folder / "north.csv"})
    content = bundle(federation.coordinator)
    del content["history"]  # which would not name it
    content["roster"]["stray"] = new_site.card(
        SiteConfig.load(tmp_path / "stray" / new_site.SITE_YAML)
    ).identity
    bundled = tmp_path / "bundle.json"

    def joined(**changes: str) -> Said:
        bundled.write_text(json.dumps(content | changes))
        given = join.FederationBundle.load(bundled)
        join.join(join.compare(tmp_path / "stray" / new_site.SITE_YAML, given))
        return run("wardround-site", "start", "--config", "stray", cwd=tmp_path)

    joined(ca=authority(other.pki)).blames(Code.TLS, "certificate", remedy="operator")
    joined().blames(Code.NODE_KEY, "does not know this site's node key", remedy="registered")
    (tmp_path / "stray" / "node.pem").write_text("-----BEGIN NOTHING-----")
    joined().blames(Code.NODE_KEY, "node.pem", remedy="wardround-site init")


def test_a_port_that_is_taken(federation: Federation, tmp_path: Path) -> None:
    other = made(tmp_path / "other")
    port = federation.coordinator.listen.rpartition(":")[2]
    settings = other.folder / "coordinator.yaml"
    mine = other.listen.rpartition(":")[2]
    settings.write_text(settings.read_text().replace(mine, port))
    said = run("wardround", "coordinator", "start", other.folder, cwd=tmp_path)
    said.blames(Code.PORT_TAKEN, port, remedy="coordinator.yaml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = run("wardround", "mlflow", tmp_path / "mlflow", "--port", port, cwd=tmp_path)
        said.blames(Code.PORT_TAKEN, port, remedy="--port")
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()


def test_mlflow_is_down_when_a_study_is_submitted(here: Path, tmp_path: Path) -> None:
    config = made(tmp_path / "coordinator", f"http://127.0.0.1:{free_port()}")
    for name in ("east", "north", "south"):
        site(tmp_path, name, {})
        loaded = SiteConfig.load(tmp_path / name / new_site.SITE_YAML)
        card = new_site.card(loaded).model_dump()
        Roster(config.roster).add(EnrolmentCard.model_validate(card), 50)
    words = [str(SCRIPTS / "wardround"), "coordinator", "start", str(config.folder)]
    log = tmp_path / "coordinator.log"
    process = forked.Python(words, tmp_path, log, log)
    try:
        wait_for(config, log)
        path = account(config, tmp_path / "ada.json")
        said = run(
            "wardround",
            "run",
            "federation=deployment",
            f"federation.credentials={path}",
            "privacy=none",
            cwd=here,
        )
        said.blames(Code.TRACKING, "No MLflow server answers", remedy="Start it")
        assert list((config.state / "studies").iterdir()) == []
    finally:
        process.stop()


# --- a hospital's files ---
def test_a_site_without_data_and_one_with_broken_files(tmp_path: Path) -> None:
    (tmp_path / "noise.csv").write_bytes(os.urandom(2000))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1" + bytes(100))
    files = {"breast_cancer": tmp_path / "none.csv", "heart_disease": tmp_path / "noise.csv"}
    site(tmp_path, "ward", files)
    check = run("wardround-site", "check", "--config", "ward", cwd=tmp_path)
    assert check.status == EXIT_STATUS[Code.NO_DATA]
    assert "none.csv cannot be read: No such file or directory." in check.out
    assert "Correct the path of records in site.yaml" in check.out
    assert "noise.csv" in check.out
    assert "re-export the file" in check.out
    assert "not joined a coordinator yet" in check.out
    assert "Traceback" not in check.out + check.err


@pytest.mark.parametrize(
    ("old", "new", "cause", "remedy"),
    [
        ("least_sites: 3", "least_site: 3", "policy.least_site", "least_sites"),
        ("memory: 4 GiB", "memory: 4 GB", "policy.memory", "4 GiB"),
        ("state: state", "state: [", "site.yaml", "line"),
        ("approval: rule", "approval: never", "policy.approval", "hand"),
    ],
)
def test_a_typo_in_site_yaml(tmp_path: Path, old: str, new: str, cause: str, remedy: str) -> None:
    site(tmp_path, "ward", {})
    path = tmp_path / "ward" / new_site.SITE_YAML
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    said = run("wardround-site", "start", "--config", "ward", cwd=tmp_path)
    said.blames(Code.CONFIGURATION, cause, remedy=remedy)


def test_a_typo_in_coordinator_yaml(tmp_path: Path) -> None:
    config = made(tmp_path / "coordinator")
    path = config.folder / "coordinator.yaml"
    path.write_text(path.read_text() + "\nlistn: 127.0.0.1:1\n")
    said = run("wardround", "coordinator", "start", config.folder, cwd=tmp_path)
    said.blames(Code.CONFIGURATION, "listn", remedy="listen")


def test_an_init_that_fails_leaves_nothing(here: Path) -> None:
    said = run("wardround-site", "init", "ward", "--site", "Not A Name", cwd=here)
    said.blames(Code.CONFIGURATION, "site", remedy="lower")
