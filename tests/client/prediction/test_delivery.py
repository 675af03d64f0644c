"""Reports reach a real PACS whatever happens on the way, or it is said why not."""

from __future__ import annotations

import io
import json
import signal
import socket
import sqlite3
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

from client.config.prediction_rules import ModelRules, Predict, SenderTls
from client.config.site_config import SiteConfig
from client.daemon.operations.backup import backup, restore
from client.governance.governance import SiteGovernance
from client.prediction.delivery import GIVE_UP_AFTER, deliver
from client.prediction.state import PredictionState
from launch.demo.local_ports import free_port
from protocol.errors import Code, WardroundError
from tests import forked
from tests.client.cli.conftest import Run, run
from tests.client.data.dicom.conftest import dcmtk, dicom3tools, orthanc
from tests.client.data.dicom.receive.test_orthanc import pacs
from tests.client.data.dicom.receive.test_receiver_tls import certificates
from tests.client.prediction.approvals import history, tell
from tests.client.prediction.ward import allowing, chest_xray, indexed, site, with_radiographs
from tests.waiting import until

__all__ = ["dcmtk", "dicom3tools", "orthanc", "run"]

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
            assert forked.run(words, tmp_path).returncode == -signal.SIGKILL
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
def peer(
    answers: Callable[[int], int], port: int | None = None, **settings: Any
) -> Iterator[tuple[int, list[bytes]]]:
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
    port = port or free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    assert server is not None
    try:
        yield port, taken
    finally:
        server.shutdown()


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    return site(tmp_path)


@pytest.fixture
def state(config: SiteConfig) -> Iterator[PredictionState]:
    with PredictionState.open(config.state) as opened:
        yield opened


def sending(config: SiteConfig, port: int, **changes: Any) -> SiteConfig:
    """The site with a policy.predict that sends to this port."""
    plain: dict[str, Any] = {
        "models": {XRAY.digest: ModelRules(send_to=("PACS",))},
        "destinations": {"PACS": f"127.0.0.1:{port}"},
    }
    predict = Predict(**plain | changes)
    policy = config.policy.model_copy(update={"predict": predict})
    return config.model_copy(update={"policy": policy})


def queued(state: PredictionState, tmp_path: Path, number: int) -> None:
    from datetime import UTC, datetime

    from client.data.dicom.results.structured_report import (
        Finding,
        ModelStatement,
        structured_report,
    )

    model = ModelStatement("chest", "3", XRAY.digest, "b" * 64, "Not for", "DX")
    found = [Finding("Probability of", "Pneumonia", 0.5)]
    said = [{"SOPInstanceUID": f"1.2.3.{place}"} for place in range(number)]
    now = datetime(2027, 3, 31, tzinfo=UTC)
    made = [structured_report(f, model, found, now) for f in with_radiographs(tmp_path, *said)]
    state.add(XRAY.digest, [uid for uid, _ in made], ["PACS"], dict(made))


def test_a_full_pacs_is_waited_for(
    config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    now = [0.0]
    state.clock = lambda: now[0]
    queued(state, tmp_path, 3)
    with peer(lambda asked: 0xA700 if asked == 1 else 0) as (port, taken):
        deliver(state, sending(config, port))
        found = state.deliveries()["PACS"]
        assert (found.taken, found.waiting) == (1, 2)
        assert found.why == "it has no room (status A700)"
        deliver(state, sending(config, port))
        assert len(taken) == 1, "it is not asked again at once"
        now[0] += 3
        deliver(state, sending(config, port))
    assert len(taken) == 3
    assert state.deliveries()["PACS"].why == ""


def test_what_a_pacs_refuses_for_good_is_given_up_and_the_rest_goes_on(
    config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 3)
    with peer(lambda asked: 0xC000 if asked == 1 else 0) as (port, taken):
        deliver(state, sending(config, port))
    found = state.deliveries()["PACS"]
    assert (len(taken), found.taken, found.waiting) == (2, 2, 0)
    assert found.given_up == {"it refused the report (status C000)": 1}


def test_an_ae_that_rejects_us_and_one_that_is_away_are_waited_for_three_days(
    config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    now = [0.0]
    state.clock = lambda: now[0]
    queued(state, tmp_path, 1)
    with peer(lambda _: 0, require_calling_aet=["ANOTHER"]) as (port, _):
        deliver(state, sending(config, port))
        assert state.deliveries()["PACS"].why == "it rejects us"
    now[0] += 60
    deliver(state, sending(config, port))
    assert state.deliveries()["PACS"].why == "it cannot be reached"
    now[0] += GIVE_UP_AFTER
    deliver(state, sending(config, port))
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
    changes: dict[str, Any], why: str, config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 1)
    with peer(lambda _: 0) as (port, taken):
        deliver(state, sending(config, port, **changes))
    assert taken == []
    assert state.deliveries()["PACS"].given_up == {why: 1}


def test_nothing_is_sent_of_a_model_that_a_reviewer_has_withdrawn(
    config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 1)
    tell(config, history(XRAY, "approved", "withdrawn"))
    with peer(lambda _: 0) as (port, taken):
        deliver(state, sending(config, port))
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


def test_a_report_that_waits_is_not_sent_once_its_patient_objects(run: Run, tmp_path: Path) -> None:
    port = free_port()
    ward(tmp_path, 4, port)
    assert run(*command(tmp_path)).status == 0
    path = tmp_path / "site" / "site.yaml"
    path.write_text(path.read_text() + f"objections: {{file: {tmp_path / 'list.txt'}}}\n")
    again = ["deliver", "--json", "-c", tmp_path / "site"]
    with peer(lambda _: 0, port=port) as (_, taken):
        _due(tmp_path)
        refused = run(*again)
        assert refused.status != 0, "the list cannot be read"
        assert taken == []
        (tmp_path / "list.txt").write_text("77707770\n")
        _due(tmp_path)
        told = json.loads(run(*again).out)
    assert (told["PACS"]["taken"], told["PACS"]["waiting"]) == (2, 0)
    objecting = {dcmread(f).PatientID for f in (tmp_path / "pacs").iterdir()} - {"77707770"}
    assert {_patient(content) for content in taken} == objecting
    with sqlite3.connect(tmp_path / "site/state/predictions.db") as db:
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM about").fetchone() == (0,)


def _due(folder: Path) -> None:
    with sqlite3.connect(folder / "site/state/predictions.db") as db:
        db.execute("UPDATE destination SET again = 0")


def _patient(encoded: bytes) -> str:
    read = dcmread(io.BytesIO(encoded), force=True)
    return str(read.PatientID)


@contextmanager
def dcmtk_peer(program: Path, folder: Path, *options: str) -> Iterator[int]:
    """dcmtk's storescp, which writes what it takes into a folder."""
    folder.mkdir()
    port = free_port()
    words = [str(program), "-od", str(folder), *options, str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: _listens(port), "storescp listens")
            yield port
        finally:
            server.terminate()


def test_orthanc_takes_reports_by_tls_and_only_by_tls(
    config: SiteConfig, state: PredictionState, tmp_path: Path, orthanc: Path
) -> None:
    """As a hospital sets it: Orthanc's DicomTlsEnabled, with a certificate from each side."""
    ours, pacs_own = certificates(tmp_path, "site"), certificates(tmp_path, "pacs")
    queued(state, tmp_path, 2)
    shown = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pacs_own["certificate"]),
        "DicomTlsPrivateKey": str(pacs_own["key"]),
        "DicomTlsTrustedCertificates": str(ours["ca"]),
    }
    own = {"certificate": ours["certificate"], "key": ours["key"], "servers": pacs_own["ca"]}
    now = [0.0]
    state.clock = lambda: now[0]
    with pacs(orthanc, tmp_path / "orthanc", 1, **shown) as client:
        port = json.loads((tmp_path / "orthanc/orthanc.json").read_text())["DicomPort"]
        deliver(state, sending(config, port))
        assert state.deliveries()["PACS"].why.startswith("it cannot be reached")
        assert client.get("/instances").json() == []
        now[0] += 900
        deliver(state, sending(config, port, tls={"PACS": SenderTls(**own)}))
        assert state.deliveries()["PACS"].taken == 2
        assert len(client.get("/instances").json()) == 2


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_reports_go_by_tls_and_to_no_other_than_the_pacs(
    config: SiteConfig, state: PredictionState, tmp_path: Path, dcmtk: dict[str, Path]
) -> None:
    ours, pacs_own = certificates(tmp_path, "site"), certificates(tmp_path, "pacs")
    stranger = certificates(tmp_path, "stranger")
    queued(state, tmp_path, 2)

    def tls(ca: Path) -> dict[str, Any]:
        own = {"certificate": ours["certificate"], "key": ours["key"], "servers": ca}
        return {"tls": {"PACS": SenderTls(**own)}}

    shown = ("+tls", str(pacs_own["key"]), str(pacs_own["certificate"]), "+cf", str(ours["ca"]))
    now = [0.0]
    state.clock = lambda: now[0]
    with dcmtk_peer(dcmtk["storescp"], tmp_path / "taken", *shown) as port:
        for changes in (tls(stranger["ca"]), {}):
            deliver(state, sending(config, port, **changes))
            assert state.deliveries()["PACS"].why.startswith("it cannot be reached")
            now[0] += 900
        assert not any((tmp_path / "taken").iterdir())
        deliver(state, sending(config, port, **tls(pacs_own["ca"])))
    assert state.deliveries()["PACS"].taken == 2
    assert len(list((tmp_path / "taken").iterdir())) == 2
    queued(state, tmp_path / "more", 1)
    ours["key"].chmod(0o640)
    with pytest.raises(WardroundError, match="private key"):
        deliver(state, sending(config, port, **tls(pacs_own["ca"])))
    ours["key"].chmod(0o600)
    ours["certificate"].write_text("no certificate")
    with pytest.raises(WardroundError) as caught:
        deliver(state, sending(config, port, **tls(pacs_own["ca"])))
    assert caught.value.code is Code.TLS


def test_a_destination_for_tls_is_one_of_the_destinations(tmp_path: Path) -> None:
    own = dict.fromkeys(("certificate", "key", "servers"), tmp_path / "file.pem")
    with pytest.raises(ValueError, match="no destination"):
        Predict(tls={"PACS": SenderTls(**own)})


def test_a_backup_has_what_was_scored_and_what_waits(
    config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 2)
    governance = SiteGovernance(config, config.load_identity())
    try:
        backup(tmp_path / "site", config, governance.state, tmp_path / "backup.tar.gz")
    finally:
        governance.close_state()
    restored = restore(tmp_path / "backup.tar.gz", tmp_path / "new")
    assert (restored.state / "predictions.db").stat().st_mode & 0o077 == 0
    with PredictionState.open(restored.state) as copy:
        assert copy.scored(XRAY.digest) == state.scored(XRAY.digest)
        with peer(lambda _: 0) as (port, taken):
            deliver(copy, sending(restored, port))
    assert len(taken) == 2


def test_a_map_goes_with_its_report_and_comes_back_whole_from_orthanc(
    orthanc: Path, run: Run, tmp_path: Path, dicom3tools: Path
) -> None:
    with pacs(orthanc, tmp_path / "orthanc", 1) as client:
        told = json.loads((tmp_path / "orthanc/orthanc.json").read_text())
        models = allowing(XRAY, modalities=["DX"], send_to=["PACS"], explain=True)
        ward(tmp_path, 1, told["DicomPort"], **models)
        done = run(*command(tmp_path), "--json")
        assert done.status == 0, done.err
        stored = [
            client.get(f"/instances/{one}/file").content for one in client.get("/instances").json()
        ]
    kinds = {}
    for number, content in enumerate(stored):
        (file := tmp_path / f"{number}.dcm").write_bytes(content)
        kinds[dcmread(file).Modality] = file
    assert set(kinds) == {"SR", "SEG"}
    for file in kinds.values():
        checked = subprocess.run([dicom3tools, file], capture_output=True, text=True)
        assert "Error" not in checked.stderr, checked.stderr
    assert dcmread(kinds["SEG"]).pixel_array.max() == 255


def test_a_pacs_that_takes_no_map_has_its_reports_all_the_same(run: Run, tmp_path: Path) -> None:
    """A queue in order stops at what cannot be sent, unless that is told from what waits."""
    models = allowing(XRAY, modalities=["DX"], send_to=["PACS"], explain=True)
    with peer(lambda _: 0) as (port, taken):
        ward(tmp_path, 3, port, **models)
        assert run(*command(tmp_path)).status == 0
    assert len(taken) == 3
    told = json.loads(run("status", "--json", "-c", tmp_path / "site").out)["reports"]["PACS"]
    assert (told["waiting"], told["taken"]) == (0, 3)
    assert told["given_up"] == {"it takes no Segmentation Storage": 3}


def test_a_pacs_that_rejects_us_is_asked_once_for_all_that_waits(
    config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 5)
    asked: list[object] = []
    entity = AE(ae_title="PACS")
    entity.add_supported_context(ComprehensiveSRStorage)
    entity.require_calling_aet = ["ANOTHER"]
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_REQUESTED, asked.append)]
    )
    assert server is not None
    try:
        deliver(state, sending(config, port))
        deliver(state, sending(config, port))
    finally:
        server.shutdown()
    assert len(asked) == 1
    found = state.deliveries()["PACS"]
    assert (found.waiting, found.taken, found.why) == (5, 0, "it rejects us")


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
def test_a_status_of_failure_is_never_taken_for_success(
    status: int, config: SiteConfig, state: PredictionState, tmp_path: Path
) -> None:
    queued(state, tmp_path, 1)
    with peer(lambda _: status) as (port, _):
        deliver(state, sending(config, port))
    found = state.deliveries()["PACS"]
    assert found.taken == 0
    assert found.given_up == {f"it refused the report (status {status:04X})": 1}
