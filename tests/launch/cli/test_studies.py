"""`wardround studies` as a data scientist types it, beside a coordinator with four hospitals."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from launch.cli.studies import studies_app
from protocol.errors import Code, WardroundError
from server.tracking.study_tracking import TrackingRequest
from tests.server.hospitals import Deployment, credentials, deployed, study_of
from tests.waiting import until

TRACKING = TrackingRequest()


def do(*words: str | Path) -> Result:
    return CliRunner().invoke(studies_app, [str(word) for word in words])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("studies")) as deployment:
        deployment.connect()
        until(lambda: len(deployment.coordinator.link.online()) == 4, "online")
        yield deployment


def test_a_study_is_listed_paused_resumed_followed_and_cancelled(here: Deployment) -> None:
    me = credentials(here.config, here.coordinator.address, "ada")
    said = do("list", "--credentials", me)
    assert (said.exit_code, said.stdout) == (0, "No study has been submitted yet.\n")
    study, configuration = study_of(here.hospitals.patients, "rounds=100000", "evaluation.every=0")
    short, _ = study_of(here.hospitals.patients, "rounds=2", "expires=2999-12-31")
    with here.account("grace") as other:
        other.submit(study_of(other.patients(), "rounds=1")[0], {})
    here.coordinator.submit("ada", study, configuration, TRACKING)
    run = here.coordinator.study(study.digest)
    assert run is not None
    until(lambda: run.row()["round"] > 1, "some rounds")
    assert "running" in do("list", "--credentials", me).stdout
    at = ("--credentials", me, "--json")
    paused = json.loads(do("pause", study.digest[:8], *at).stdout)
    assert paused == {"study": study.digest, "state": "paused"}
    (row,) = json.loads(do("list", *at).stdout)
    assert (row["state"], row["title"]) == ("paused", study.title)
    resumed = json.loads(do("resume", study.digest[:8], *at).stdout)
    assert resumed["state"] in ("proposed", "waiting", "running")
    nobody = do("cancel", study.digest[:8], *at).exception
    assert isinstance(nobody, WardroundError)
    assert "--yes" in nobody.remedy, "nobody is there to be asked"
    cancelled = json.loads(do("cancel", study.digest[:8], "--yes", *at).stdout)
    assert cancelled["state"] == "cancelled"
    here.coordinator.submit("ada", short, {}, TRACKING)
    followed = do("follow", short.digest, "--credentials", me)
    assert "is finished, round 2 of 2." in followed.stdout
    assert "2999-12-31" in do("list", "--credentials", me).stdout
    unknown = do("resume", "ffff", *at).exception
    assert isinstance(unknown, WardroundError)
    assert unknown.code is Code.USAGE
