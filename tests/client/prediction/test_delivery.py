"""Reports reach a real PACS whatever happens on the way, or it is said why not."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage
from pynetdicom import AE, evt

from client.config.prediction_rules import ModelRules, Predict
from client.config.site_config import SiteConfig
from client.prediction.delivery import GIVE_UP_AFTER, deliver
from client.prediction.state import PredictionState
from tests.client.cli.conftest import Run, run
from tests.client.data.dicom.conftest import orthanc
from tests.client.data.dicom.receive.test_orthanc import free_port, pacs
from tests.client.prediction.ward import allowing, chest_xray, indexed, site, with_radiographs

__all__ = ["orthanc", "run"]

XRAY = chest_xray()
_KILLED = """
import os, signal, sys
from unittest.mock import patch
from client.cli.main import main
from client.prediction.state import PredictionState
method, last = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
original, calls = getattr(PredictionState, method), []
def killed(*arguments, **words):
    calls.append(1)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **words)
with patch.object(PredictionState, method, killed):
    main()
"""


def ward(folder: Path, radiographs: int, port: int, **predict: Any) -> SiteConfig:
    """A site whose radiographs lie in the index, and whose PACS listens on this port."""
    said = [{"SOPInstanceUID": f"1.2.3.{number}"} for number in range(radiographs)]
    with_radiographs(folder, *said)
    rules = allowing(XRAY, modalities=["DX"], send_to=["PACS"])
    rules |= {"destinations": {"PACS": f"127.0.0.1:{port}"}} | predict
    imaging = {"folders": [str(folder / "pacs")], "detect_text": False}
    config = site(folder, rules, imaging=imaging)
    indexed(config, folder)
    XRAY.write(folder / "xray.safetensors")
    return config


def command(folder: Path) -> list[str]:
    words = ["predict", "--model", str(folder / "xray.safetensors"), "--for", "new"]
    return [*words, "-c", str(folder / "site")]


@pytest.mark.slow
def test_a_burst_arrives_whole_and_in_order_through_kills(
    orthanc: Path, run: Run, tmp_path: Path
) -> None:
    with pacs(orthanc, tmp_path / "orthanc", 1) as client:
        told = json.loads((tmp_path / "orthanc/orthanc.json").read_text())
        ward(tmp_path, 24, told["DicomPort"])
        for method, call in (("add", 1), ("taken", 7), ("taken", 11)):
            words = [sys.executable, "-c", _KILLED, method, str(call), *command(tmp_path)]
            assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
        done = run(*command(tmp_path), "--json")
        assert done.status == 0, done.err
        changes = client.get("/changes?limit=1000").json()["Changes"]
        arrived = [
            reported(client.get(f"/instances/{change['ID']}/file").content)
            for change in changes
            if change["ChangeType"] == "NewInstance"
        ]
        order = sorted((tmp_path / "pacs").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        assert arrived == [str(dcmread(file).SOPInstanceUID) for file in order]
    told = json.loads(run("status", "--json", "-c", tmp_path / "site").out)
    assert told["reports"] == {"PACS": {"waiting": 0, "taken": 24, "why": "", "given_up": {}}}


def reported(content: bytes) -> str:
    """The image that a report is about."""
    report = dcmread(io.BytesIO(content))
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (image,) = series.ReferencedSOPSequence
    return str(image.ReferencedSOPInstanceUID)


@contextmanager
def peer(answers: Callable[[int], int], **settings: Any) -> Iterator[tuple[int, list[bytes]]]:
    """A PACS that answers the n-th object, from 0, with a status. Its port, and what it took."""
    taken: list[bytes] = []
    asked: list[int] = []

    def store(event: evt.Event) -> int:
        status = answers(len(asked))
        asked.append(status)
        if status == 0:
            taken.append(event.encoded_dataset())
        return status

    entity = AE(ae_title="PACS")
    entity.add_supported_context(ComprehensiveSRStorage)
    for name, value in settings.items():
        setattr(entity, name, value)
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    assert server is not None
    try:
        yield port, taken
    finally:
        server.shutdown()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[PredictionState]:
    (tmp_path / "state").mkdir(mode=0o700)
    with PredictionState.open(tmp_path / "state") as opened:
        yield opened


def rules(port: int, **changes: Any) -> Predict:
    plain: dict[str, Any] = {
        "models": {XRAY.digest: ModelRules(send_to=("PACS",))},
        "destinations": {"PACS": f"127.0.0.1:{port}"},
    }
    return Predict(**plain | changes)


def nobody(model: str) -> str:
    """Has turned the model down."""
    return ""


def queued(state: PredictionState, tmp_path: Path, number: int) -> None:
    from datetime import UTC, datetime

    from client.data.dicom.results.structured_report import ModelStatement, structured_report

    model = ModelStatement("chest", "3", XRAY.digest, "b" * 64, "Pneumonia", "Not for", "DX")
    said = [{"SOPInstanceUID": f"1.2.3.{place}"} for place in range(number)]
    now = datetime(2027, 3, 31, tzinfo=UTC)
    made = [structured_report(f, model, 0.5, now) for f in with_radiographs(tmp_path, *said)]
    state.add(XRAY.digest, [uid for uid, _ in made], ["PACS"], dict(made))


def test_a_full_pacs_is_waited_for(state: PredictionState, tmp_path: Path) -> None:
    now = [0.0]
    state.clock = lambda: now[0]
    queued(state, tmp_path, 3)
    with peer(lambda asked: 0xA700 if asked == 1 else 0) as (port, taken):
        deliver(state, rules(port), nobody)
        found = state.deliveries()["PACS"]
        assert (found.taken, found.waiting) == (1, 2)
        assert found.why == "it has no room (status A700)"
        deliver(state, rules(port), nobody)
        assert len(taken) == 1, "it is not asked again at once"
        now[0] += 3
        deliver(state, rules(port), nobody)
    assert len(taken) == 3
    assert state.deliveries()["PACS"].why == ""


def test_what_a_pacs_refuses_for_good_is_given_up_and_the_rest_goes_on(
    state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 3)
    with peer(lambda asked: 0xC000 if asked == 1 else 0) as (port, taken):
        deliver(state, rules(port), nobody)
    found = state.deliveries()["PACS"]
    assert (len(taken), found.taken, found.waiting) == (2, 2, 0)
    assert found.given_up == {"it refused the report (status C000)": 1}


def test_an_ae_that_rejects_us_and_one_that_is_away_are_waited_for_three_days(
    state: PredictionState, tmp_path: Path
) -> None:
    now = [0.0]
    state.clock = lambda: now[0]
    queued(state, tmp_path, 1)
    with peer(lambda _: 0, require_calling_aet=["ANOTHER"]) as (port, _):
        deliver(state, rules(port), nobody)
        assert state.deliveries()["PACS"].why == "it rejects us"
    now[0] += 60
    deliver(state, rules(port), nobody)
    assert state.deliveries()["PACS"].why == "it cannot be reached"
    now[0] += GIVE_UP_AFTER
    deliver(state, rules(port), nobody)
    assert state.deliveries()["PACS"].given_up == {"not taken within 3 days": 1}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"models": {}}, "the policy no longer allows its model"),
        (
            {"models": {XRAY.digest: ModelRules()}, "destinations": {}},
            "the policy no longer allows this destination",
        ),
    ],
)
def test_nothing_is_sent_that_the_policy_no_longer_allows(
    changes: dict[str, Any], why: str, state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 1)
    with peer(lambda _: 0) as (port, taken):
        deliver(state, rules(port, **changes), nobody)
    assert taken == []
    assert state.deliveries()["PACS"].given_up == {why: 1}


def test_nothing_is_sent_of_a_model_that_a_reviewer_has_withdrawn(
    state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 1)
    with peer(lambda _: 0) as (port, taken):
        deliver(state, rules(port), {XRAY.digest: "rita has withdrawn it"}.__getitem__)
    assert taken == []
    assert state.deliveries()["PACS"].given_up == {"rita has withdrawn it": 1}


def test_what_was_given_up_is_sent_on_demand(run: Run, tmp_path: Path) -> None:
    with peer(lambda asked: 0xC000 if asked == 0 else 0) as (port, taken):
        ward(tmp_path, 2, port)
        assert run(*command(tmp_path)).status == 0
        told = json.loads(run("deliver", "--json", "-c", tmp_path / "site").out)
        assert told["PACS"]["given_up"] == {"it refused the report (status C000)": 1}
        done = run("deliver", "--again", "-c", tmp_path / "site")
        assert "2 reports taken, 0 waiting" in done.out
        assert len(taken) == 2


def test_without_a_destination_nothing_is_scored(run: Run, tmp_path: Path) -> None:
    allowed = allowing(XRAY, modalities=["DX"])
    ward(tmp_path, 1, 104, **allowed)
    refused = run(*command(tmp_path))
    assert refused.status == 5
    assert "may be sent nowhere" in refused.err
