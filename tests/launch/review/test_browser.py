"""A reviewer's way in a real browser: logs in, finds the candidate, reads, compares, approves.

WARDROUND_SCREENSHOTS names a folder in which pictures of every page stay, to be looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from launch.demo.child_process import script
from launch.demo.local_ports import free_port
from launch.tracking_server.coordinator_login import log_in
from protocol.study.study import Study
from server.review.approval_watch import ApprovalWatch
from server.tracking.mlflow_run import client_of
from tests.browser import Browser
from tests.launch.review.test_review import GATED, Consortium
from tests.launch.tracking_server.federation import FederationMlflow
from tests.server.hospitals import deployed
from tests.waiting import until

pytestmark = pytest.mark.slow
IMAGES = "[...document.querySelectorAll('img')].filter(i => i.naturalWidth > 200).length"
ASKS = """fetch("/ajax-api/2.0/mlflow/%s", {method: "POST", body: JSON.stringify(%s),
    headers: {"content-type": "application/json"}}).then((answer) => answer.status)"""


@dataclass(frozen=True)
class Answer:
    """What answers a reviewer's question. clicks: the links that lead to it from the run's page."""

    reads: tuple[str, ...]
    clicks: tuple[str, ...] = ()


def answers(study: Study) -> dict[str, Answer]:
    """Ten questions about version 2, whose study is `study`, launched by ada."""
    card, version = ("Show more",), ("/models/cancer/versions/2",)
    return {
        "for whom": Answer(("Intended use:", "Not for"), card),
        "how private": Answer(("What it cost in privacy", "No differential privacy"), card),
        "how sure": Answer(("95% interval", "Scored on"), card),
        "against what": Answer(("Against what", "nothing: all patients scored alike"), card),
        "who": Answer(("account ada of the coordinator", "Who agreed"), card),
        "when": Answer(("Created at", f"of the coordinator on {datetime.now(UTC):%Y-%m-}"), card),
        "which data": Answer((f"About {study.patients():,} patients", "Inputs"), card),
        "which code": Answer((study.task.source, "wardround.code_version", study.digest), card),
        "what limits": Answer(("Limits:", "nobody has validated it elsewhere"), card),
        "what next": Answer(("What next", "A reviewer who did not launch it"), card),
        "what became of it": Answer(("wardround.gate.auc", "candidate"), version),
    }


class Desk:
    """rita's: a federation whose ada has trained two versions of `cancer`."""

    def __init__(self, made: Consortium, mlflow: FederationMlflow) -> None:
        self.made, self.mlflow = made, mlflow
        self.rita: Any = client_of(mlflow.uri("rita"))
        versions = self.rita.search_model_versions("name = 'cancer'")
        self.runs = {str(one.version): str(one.run_id) for one in versions}
        self.experiment = self.rita.get_run(self.runs["1"]).info.experiment_id

    def figures(self, run: str, folder: str = "") -> list[str]:
        """Paths of a run's PNG files."""
        found: list[str] = []
        for entry in self.rita.list_artifacts(run, folder or None):
            if entry.is_dir:
                found += self.figures(run, entry.path)
            elif entry.path.endswith(".png"):
                found.append(entry.path)
        return found

    def window(self, width: int) -> Browser:
        folder = self.mlflow.folder / f"window-{width}"
        certificate, password = self.mlflow.home / "server.crt", self.mlflow.password("rita")
        return Browser(folder, certificate, "rita", password, width)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    url = f"https://localhost:{free_port()}"
    with pytest.MonkeyPatch.context() as patch, deployed(folder / "there", url) as here:
        for name in ("URI", "USERNAME", "PASSWORD", "SERVER_CERT_PATH"):
            patch.setenv(f"MLFLOW_TRACKING_{name}", "")
        here.connect()
        made = Consortium(here, url, folder)
        mlflow = FederationMlflow(folder, here.config)
        mlflow.set_up()
        log_in(here.config)
        with mlflow:
            made.train(*GATED)
            made.train("seed=1", *GATED)
            coordinator = here.coordinator
            report = coordinator.unsigned_approvals
            with ApprovalWatch(coordinator.decisions, coordinator.offers, url, report, pause=1.0):
                yield Desk(made, mlflow)


@pytest.mark.parametrize("width", [1280, 1920])
def test_a_reviewer_reads_everything_and_compares(desk: Desk, width: int, tmp_path: Path) -> None:
    kept = Path(os.environ.get("WARDROUND_SCREENSHOTS", tmp_path)) / str(width)
    url, run, other = desk.mlflow.url, desk.runs["2"], desk.runs["1"]
    figures = desk.figures(run)
    assert len(figures) >= 5
    with desk.window(width) as window:
        window.open(url)  # the first page leads to the newest experiment's runs
        window.reads("auc", "mode", "cancer")
        window.keep(kept / "runs.png")
        window.open(f"{url}/#/models/cancer")
        window.reads("candidate", "Version 2")
        window.keep(kept / "model.png")
        window.open(f"{url}/#/models/cancer/versions/2")
        window.reads("candidate", "wardround.gate.auc")
        window.keep(kept / "version.png")
        window.open(f"{url}/#/experiments/{desk.experiment}/runs/{run}")
        window.reads("How well it does", "Intended use", "ada")
        window.keep(kept / "run.png")
        for figure in figures:
            window.open("about:blank")
            window.open(f"{url}/#/experiments/{desk.experiment}/runs/{run}/artifacts/{figure}")
            window.until(IMAGES, f"{figure} is not drawn")
            window.keep(kept / f"{Path(figure).stem}.png")
        runs = f"runs={json.dumps([run, other])}&experiments={json.dumps([desk.experiment])}"
        window.open(f"{url}/#/compare-runs?{runs.replace(' ', '')}")
        window.reads("Comparing 2 Runs", "auc", "mode")
        window.keep(kept / "compared.png")


def test_ten_questions_are_answered_within_two_clicks_of_the_run(
    desk: Desk, tmp_path: Path
) -> None:
    kept = Path(os.environ.get("WARDROUND_SCREENSHOTS", tmp_path)) / "questions"
    run = desk.runs["2"]
    study = Study.parse(Path(desk.rita.download_artifacts(run, "study.json")).read_bytes())
    with desk.window(1280) as window:
        for question, answer in answers(study).items():
            assert len(answer.clicks) <= 2
            window.open("about:blank")
            window.open(f"{desk.mlflow.url}/#/experiments/{desk.experiment}/runs/{run}")
            for link in answer.clicks:
                window.click(link)
            for text in answer.reads:
                window.legible(text)
            window.keep(kept / f"{question.replace(' ', '_').replace(':', '')}.png")


def test_a_reviewer_approves_and_may_nothing_else(desk: Desk, tmp_path: Path) -> None:
    kept = Path(os.environ.get("WARDROUND_SCREENSHOTS", tmp_path))
    url, run = desk.mlflow.url, desk.runs["1"]
    with desk.window(1280) as window:
        window.open(f"{url}/#/models/cancer")
        window.reads("candidate")
        for what, body in (
            ("runs/set-tag", {"run_id": run, "key": "x", "value": "y"}),
            ("runs/log-metric", {"run_id": run, "key": "auc", "value": 1, "timestamp": 1}),
            ("runs/delete", {"run_id": run}),
            ("experiments/create", {"name": "rita's"}),
            ("users/create", {"username": "eve", "password": "long enough for it"}),
            ("model-versions/set-tag", {"name": "cancer", "version": "1", "key": "x"}),
        ):
            assert window.look(ASKS % (what, json.dumps(body))) == 403, what
        made = desk.made
        words = ["review", "approve", "cancer", "1", "--reason", "well calibrated"]
        keys = ["--credentials", made.people["rita"], "--key", made.folder / "rita.key"]
        login = {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": "rita",
            "MLFLOW_TRACKING_PASSWORD": desk.mlflow.password("rita"),
        }
        command = [script("wardround"), *words, *map(str, keys)]
        subprocess.run(command, env=os.environ | login, check=True)
        until(lambda: "approved" in desk.rita.get_registered_model("cancer").aliases, "followed")
        window.open("about:blank")
        window.open(f"{url}/#/models/cancer/versions/1")
        window.reads("approved", "well calibrated")
        window.keep(kept / "approved.png")


def test_who_does_not_log_in_sees_nothing(desk: Desk) -> None:
    certificate = desk.mlflow.home / "server.crt"
    with Browser(desk.mlflow.folder / "window", certificate, "rita", "wrong", 1280) as window:
        window.open(desk.mlflow.url)
        window.reads("Name and password are asked for.")
