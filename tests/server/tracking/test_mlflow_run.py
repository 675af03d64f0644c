"""Tracking against a real MLflow server: what a reviewer finds, what never goes there, and rounds
that go on while the server is slow or away."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import inspect
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import psutil
import pytest
import requests
import torch
import yaml

from launch.demo.mlflow_server import MlflowServer
from launch.queries.analyses import glm
from launch.queries.ask import Where, ask
from launch.queries.query_builder import Price
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import METRICS
from protocol.outcomes.estimates import Estimate
from protocol.study.study import Study
from server import undelivered
from server.answers.analysis_report import metrics
from server.outcome import Baselines, Outcome, RoundReport
from server.tracking import backlog
from server.tracking.mlflow_run import TrackedRun
from server.tracking.tracker import MlflowTracker, TrackingReceipt, require_answer
from tasks import registry
from tasks.flat_model import FlatModel
from tests import forked
from tests.narrowing import present
from tests.server.outcomes import CONFIGURATION, ended, outcome, report, study
from tests.server.tracking.patient import be_patient
from tests.waiting import HUNG, until

EXPERIMENT = "ward round"
PATIENCE = inspect.signature(require_answer).parameters["timeout"].default
"""As it is outside these tests."""
PICTURES = (
    "learning_curve",
    "calibration",
    "scores",
    "roc",
    "precision_recall",
    "confusion_matrix",
)


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch)
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="module")
def finished(server: MlflowServer) -> tuple[Outcome, TrackingReceipt]:
    """One study tracked from beginning to end."""
    done = outcome(study())
    return done, _track(server, done)


def _track(server: MlflowServer, done: Outcome, **options: Any) -> TrackingReceipt:
    tracker = MlflowTracker(server.url, EXPERIMENT, **options)
    tracker.begin(done.study, CONFIGURATION, "1.2.3+abc")
    for one in done.rounds:
        tracker.round(one)
    tracker.finish(done)
    return tracker.settle()


def _client(server: MlflowServer) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.url, registry_uri=server.url)


def _run(server: MlflowServer, of: Study) -> Any:
    client = _client(server)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    where = f"tags.`wardround.study` = '{of.digest}'"
    (run,) = client.search_runs([experiment.experiment_id], filter_string=where)
    return run


def _artifact(server: MlflowServer, run: Any, path: str, folder: Path) -> bytes:
    return Path(_client(server).download_artifacts(run.info.run_id, path, str(folder))).read_bytes()


def test_a_reviewer_finds_study_figures_and_documents(
    server: MlflowServer, finished: tuple[Outcome, TrackingReceipt], tmp_path: Path
) -> None:
    done, receipt = finished
    assert receipt.missing == ()
    run = _run(server, done.study)
    assert run.info.run_id in receipt.url
    assert run.info.status == "FINISHED"
    tags, params = run.data.tags, run.data.params
    assert tags["wardround.code_version"] == "1.2.3+abc"
    assert tags["wardround.uncovered"] == done.uncovered
    assert tags["wardround.sites"] == "3"
    assert (params["planned_epsilon"], params["noise_multiplier"]) == ("2.0", "1.5")
    assert (params["sites"], params["patients_declared"]) == ("3", "300")
    assert len(params) <= 17
    document = _artifact(server, run, "study.json", tmp_path)
    assert Study.parse(document).digest == done.study.digest
    configuration = yaml.safe_load(_artifact(server, run, "configuration.yaml", tmp_path))
    assert configuration["privacy"] == CONFIGURATION["privacy"]
    assert "hunter" not in json.dumps(configuration) + json.dumps(params)
    for picture in PICTURES:
        content = _artifact(server, run, f"figures/{picture}.png", tmp_path)
        assert content.startswith(b"\x89PNG")
    assert _artifact(server, run, "figures/thresholds.csv", tmp_path).startswith(b"threshold,")
    assert b"## Inputs" in _artifact(server, run, "model_card.md", tmp_path)


def test_a_run_has_few_metrics_and_none_twice(
    server: MlflowServer, finished: tuple[Outcome, TrackingReceipt]
) -> None:
    metrics = _run(server, finished[0].study).data.metrics
    assert next(iter(metrics)) == "auc", "the page that compares runs opens on it"
    shown = {name for name in metrics if not name.startswith("system/")}
    assert shown == {"auc", "auc_low", "auc_high", "brier", "epsilon", "participants"}


def test_mlflow_is_told_that_this_is_about_models(
    server: MlflowServer, finished: tuple[Outcome, TrackingReceipt]
) -> None:
    tags = _client(server).get_experiment_by_name(EXPERIMENT).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert finished[1].url.endswith("?workflowType=machine_learning")


def test_a_version_awaits_a_reviewers_decision(
    server: MlflowServer, finished: tuple[Outcome, TrackingReceipt]
) -> None:
    version = _track(server, outcome(study()), model="awaits").model.rpartition("/")[2]
    assert _client(server).get_model_version_by_alias("awaits", "candidate").version == version


def test_rounds_are_steps_with_intervals_and_costs(
    server: MlflowServer, finished: tuple[Outcome, TrackingReceipt]
) -> None:
    done, _ = finished
    run = _run(server, done.study)
    history = {
        name: [(m.step, m.value) for m in _client(server).get_metric_history(run.info.run_id, name)]
        for name in ("auc", "auc_low", "system/bytes_sent", "participants", "brier_high")
    }
    steps = [1, 2, 3]
    assert dict(history["auc"]) == {r: pytest.approx(0.9 + 0.01 * r) for r in steps}
    assert dict(history["auc_low"]) == {r: pytest.approx(0.88 + 0.01 * r) for r in steps}
    assert history["system/bytes_sent"] == [(r, 1000 * r) for r in steps]
    assert history["participants"] == [(r, 3) for r in steps]
    assert history["brier_high"] == []
    final = run.data.metrics
    assert final["epsilon"] == 1.875
    assert final["auc_high"] == pytest.approx(0.95)


def test_the_description_says_what_a_reviewer_asks(
    server: MlflowServer, finished: tuple[Outcome, TrackingReceipt]
) -> None:
    done, _ = finished
    note = _run(server, done.study).data.tags["mlflow.note.content"]
    for said in (
        "**purpose:** research",
        "300 patients",
        "3 sites",
        "Epsilon **1.875** at delta 1e-05",
        "it would be 7.5",
        "| auc | **0.930** | 0.910 to 0.950 |",
        "does not cover the evaluation split",
        done.study.digest,
    ):
        assert said in note


def test_the_registered_model_scores_like_the_torch_model(
    finished: tuple[Outcome, TrackingReceipt], server: MlflowServer
) -> None:
    import mlflow

    done, receipt = finished
    task = registry.load("breast_cancer")
    generator = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            c.name: generator.uniform(c.low - 1, c.high + 1, size=40)
            for c in reversed(task.schema.columns)
        },
        index=range(100, 140),
    )
    frame.iloc[::3, ::4] = np.nan
    mlflow.set_tracking_uri(server.url)
    loaded = mlflow.pyfunc.load_model(receipt.model)
    scored = loaded.predict(frame)
    reference = FlatModel(task, 0)
    reference.load(done.weights)
    table = {c.name: frame[c.name].to_numpy() for c in task.schema.columns}
    features = torch.from_numpy(task.features(table))
    with torch.no_grad():  # each by itself: a row's last bit may depend on those beside it
        rows = [task.scores(reference.module(row[None].clone())) for row in features]
    expected = torch.cat(rows).numpy()
    np.testing.assert_array_equal(scored["score"].to_numpy(dtype=np.float32), expected)
    assert list(scored.index) == list(frame.index)
    assert scored["score"].between(0, 1).all()
    assert len(np.unique(expected)) > 10
    assert loaded.metadata.signature.inputs.input_names() == [c.name for c in task.schema.columns]
    with pytest.raises(mlflow.MlflowException, match=r"missing|required"):
        loaded.predict(frame.drop(columns=frame.columns[0]))


def test_the_model_version_carries_its_claims_and_no_code(
    finished: tuple[Outcome, TrackingReceipt], server: MlflowServer, tmp_path: Path
) -> None:
    import mlflow

    done, receipt = finished
    _, name, number = receipt.model.replace("models:/", "/").split("/")
    version = _client(server).get_model_version(name, number)
    assert version.tags["wardround.study"] == done.study.digest
    assert version.tags["wardround.epsilon"] == "1.875"
    assert "load_model" in version.description
    mlflow.set_tracking_uri(server.url)
    folder = Path(mlflow.artifacts.download_artifacts(receipt.model, dst_path=str(tmp_path)))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert not {f for f in files if f.endswith((".py", ".pkl", ".pt", ".pth", ".bin"))}
    saved = yaml.safe_load((folder / "MLmodel").read_text())
    assert saved["flavors"]["python_function"]["loader_module"] == "server.released_model"
    example = loaded_example(folder)
    for column in registry.load("breast_cancer").schema.columns:
        assert example[column.name][0] == pytest.approx((column.low + column.high) / 2)


def loaded_example(folder: Path) -> dict[str, list[float]]:
    split = json.loads((folder / "input_example.json").read_text())
    return {name: [row[i] for row in split["data"]] for i, name in enumerate(split["columns"])}


def test_a_second_study_becomes_the_next_version(
    finished: tuple[Outcome, TrackingReceipt], server: MlflowServer
) -> None:
    first = finished[1].model
    second = _track(server, outcome(study())).model
    assert second.rpartition("/")[0] == first.rpartition("/")[0]
    assert int(second.rpartition("/")[2]) == int(first.rpartition("/")[2]) + 1
    named = _track(server, outcome(study()), model="triage").model
    assert named == "models:/triage/1"


@pytest.mark.parametrize("status", ["failed", "killed"])
def test_an_unfinished_study_keeps_what_it_has_but_registers_nothing(
    server: MlflowServer, status: Literal["failed", "killed"], tmp_path: Path
) -> None:
    done = ended(study(), status)
    receipt = _track(server, done, model=f"never-{status}")
    run = _run(server, done.study)
    assert run.info.status == status.upper()
    assert run.data.tags["wardround.model"] == "unfinished"
    assert "**Unfinished model:**" in run.data.tags["mlflow.note.content"]
    assert (receipt.model, receipt.missing) == ("", ())
    assert _client(server).search_registered_models(f"name = 'never-{status}'") == []
    (tmp_path / "w.npz").write_bytes(_artifact(server, run, "unfinished/weights.npz", tmp_path))
    with np.load(tmp_path / "w.npz", allow_pickle=False) as arrays:
        size = sum(arrays[name].size for name in arrays.files)
    assert size == done.study.model.parameters


def test_a_study_that_never_came_to_an_outcome_is_killed(server: MlflowServer) -> None:
    of = study()
    tracker = MlflowTracker(server.url, EXPERIMENT)
    tracker.begin(of, {}, "1")
    tracker.lost(1, 1, "east did not answer")
    tracker.round(report(1))
    assert tracker.settle().missing == ()
    run = _run(server, of)
    assert run.info.status == "KILLED"
    assert run.data.metrics["auc"] == pytest.approx(0.91)
    assert of.spare_attempts == 4
    assert run.data.tags["wardround.spare_attempts_left"] == "3"


@pytest.mark.parametrize("handed_in", [False, True], ids=["no outcome", "an outcome"])
def test_a_killed_run_ends_before_the_rounds_that_still_wait(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch, *, handed_in: bool
) -> None:
    """So that it ends even where the time for a farewell is too short for all of them."""
    called: list[str] = []
    begun, let_go = threading.Event(), threading.Event()
    rounds, end = TrackedRun.rounds, TrackedRun.end

    def slow(self: TrackedRun, reports: Sequence[tuple[int, RoundReport]]) -> None:
        begun.set()
        let_go.wait()
        rounds(self, reports)
        called.append("rounds")

    def noted(self: TrackedRun, status: str, when: int) -> None:
        end(self, status, when)
        called.append(status)

    monkeypatch.setattr(TrackedRun, "rounds", slow)
    monkeypatch.setattr(TrackedRun, "end", noted)
    of = study(rounds=60)
    tracker = MlflowTracker(server.url, EXPERIMENT)
    tracker.begin(of, {}, "1")
    tracker.round(report(1))
    assert begun.wait(HUNG)
    for number in range(2, 61):
        tracker.round(report(number))
    if handed_in:
        tracker.finish(ended(of, "killed"))
    receipts: list[TrackingReceipt] = []
    settling = threading.Thread(target=lambda: receipts.append(tracker.settle()))
    settling.start()
    until(lambda: "end of the run" in tracker._courier.missing, "the end waits")
    let_go.set()
    settling.join()
    assert called == ["rounds", "killed", "rounds", "rounds", "rounds"]
    assert receipts[0].missing == ()
    run = _run(server, of)
    assert run.info.status == "KILLED"
    history = _client(server).get_metric_history(run.info.run_id, "system/seconds")
    assert len(history) == 60


def test_a_resumed_study_goes_on_in_its_run(server: MlflowServer) -> None:
    done = outcome(study())
    first = MlflowTracker(server.url, EXPERIMENT)
    first.begin(done.study, CONFIGURATION, "1")
    first.round(done.rounds[0])
    first.settle()
    _track(server, done)
    _track(server, done)
    run = _run(server, done.study)
    history = _client(server).get_metric_history(run.info.run_id, "system/seconds")
    assert [m.step for m in history] == [1, 2, 3]
    assert run.info.status == "FINISHED"
    mine = f"name = 'breast_cancer' and run_id = '{run.info.run_id}'"
    assert len(_client(server).search_model_versions(mine)) == 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_down_is_said_at_once() -> None:
    """By the first of all attempts to connect, and before MLflow is imported, which takes long."""
    port = _free_port()
    program = (
        "import sys\n"
        "tried = []\n"
        "sys.addaudithook(lambda event, given: event == 'socket.connect' and tried.append(given))\n"
        "from server.tracking.tracker import MlflowTracker\n"
        "from protocol.errors import WardroundError\n"
        f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from outcomes import study\n"
        "try:\n"
        f"    MlflowTracker('http://127.0.0.1:{port}', 'x').begin(study(), {{}}, '1')\n"
        "except WardroundError as error:\n"
        "    print(error, len(tried), 'mlflow' in sys.modules, sep='|')\n"
        "    sys.exit(error.exit_status)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=HUNG
    )
    message, *did = ran.stdout.strip().split("|")
    assert ran.returncode == 7
    assert did == ["1", "False"]
    assert str(port) in message
    assert "tracking.uri" in message


def test_something_else_on_the_port_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once, and never says a word."""
    monkeypatch.setattr(require_answer, "__defaults__", (0.2,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WardroundError, match="No MLflow server answers") as caught:
            MlflowTracker(uri, EXPERIMENT).begin(study(), {}, "1")
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert caught.value.code == Code.TRACKING


def test_a_server_that_takes_five_seconds_for_an_answer_is_there() -> None:
    """With as much again for a machine that is busy itself; one that is away is known at once."""
    assert PATIENCE >= 2 * 5.0


def test_an_address_that_is_no_server_is_refused_without_showing_its_password() -> None:
    with pytest.raises(WardroundError) as caught:
        MlflowTracker("sqlite://me:hunter2@x/mlflow.db", EXPERIMENT)
    assert caught.value.code == Code.CONFIGURATION
    assert "hunter2" not in str(caught.value)


def test_rounds_go_on_while_the_server_hangs_and_are_caught_up(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "100000")  # seconds: no wait for it ends
    done = outcome(study(rounds=60))
    tracker = MlflowTracker(server.url, EXPERIMENT)
    tracker.begin(done.study, {}, "1")
    assert server.wait()
    port = int(server.url.rpartition(":")[2])
    (listener,) = {
        present(c.pid)
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
    }
    os.kill(listener, signal.SIGSTOP)
    try:
        _hand_in(tracker, done)
    finally:
        os.kill(listener, signal.SIGCONT)
    assert tracker.settle().missing == ()
    assert _steps(server, done) == list(range(1, 61))


def test_rounds_go_on_while_the_server_is_dead_and_are_caught_up(
    tmp_path: Path, server: MlflowServer
) -> None:
    done = outcome(study(rounds=40))
    tracker = MlflowTracker(server.url, EXPERIMENT, undelivered=tmp_path)
    tracker.begin(done.study, {}, "1")
    server.stop()
    try:
        _hand_in(tracker, done)
    finally:
        server.start()
        server.wait()
    receipt = tracker.settle()
    assert receipt.missing == ()
    assert _steps(server, done) == list(range(1, 41))
    assert _run(server, done.study).info.status == "FINISHED"
    assert receipt.model.startswith("models:/breast_cancer/")


@contextlib.contextmanager
def _losing_replies(server: MlflowServer, lose: threading.Event) -> Iterator[tuple[str, list[str]]]:
    """A proxy that passes every request on and, once `lose` is set, loses the first reply to each
    kind of request: the server did the work, the client does not know."""
    lost: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k != "Accept-Encoding"}
            answer = requests.request(
                self.command, server.url + self.path, data=body, headers=headers, timeout=HUNG
            )
            kind = f"{self.command} {re.sub('[0-9a-f]{32}', '', self.path.partition('?')[0])}"
            if lose.is_set() and kind not in lost:
                lost.append(kind)
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = _pass_on  # noqa: N815 (http.server calls them by these names)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}", lost
        proxy.shutdown()


def test_a_reply_that_is_lost_leaves_nothing_twice(server: MlflowServer) -> None:
    done, lose = outcome(study()), threading.Event()
    with _losing_replies(server, lose) as (uri, lost):
        tracker = MlflowTracker(uri, EXPERIMENT, model="twice", pause=0.01)
        tracker.begin(done.study, CONFIGURATION, "1")
        lose.set()
        for one in done.rounds:
            tracker.round(one)
        tracker.finish(done)
        receipt = tracker.settle()
    assert receipt.missing == ()
    assert len(lost) >= 10
    run = _run(server, done.study)
    client = _client(server)
    history = client.get_metric_history(run.info.run_id, "auc")
    assert [m.step for m in history] == [1, 2, 3]
    assert len(run.outputs.model_outputs) == 1
    mine = f"source_run_id = '{run.info.run_id}'"
    (model,) = client.search_logged_models([run.info.experiment_id], filter_string=mine)
    assert model.status == "READY"
    versions = client.search_model_versions("name = 'twice'")
    assert [v.tags["wardround.study"] for v in versions] == [done.study.digest]
    assert run.info.status == "FINISHED"


def test_what_could_not_be_delivered_is_kept_and_delivered_later(
    tmp_path: Path, server: MlflowServer
) -> None:
    done = outcome(study(rounds=5))
    with _losing_replies(server, threading.Event()) as (uri, _):
        tracker = MlflowTracker(uri, EXPERIMENT, model="later", undelivered=tmp_path)
        tracker.begin(done.study, CONFIGURATION, "1")
    _hand_in(tracker, done)
    receipt = tracker.settle(timeout=0.0)  # and not until the server is back, which it never is
    folder = tmp_path / done.study.digest[:12]
    assert {"rounds", "model", "end of the run"} <= set(receipt.missing)
    command = shlex.split(receipt.remedy.rpartition(": ")[2])
    deliver = ["wardround", "tracking", "deliver", str(folder)]
    assert command == [*deliver, uri, EXPERIMENT, "--model", "later"]
    assert "hunter" not in "".join(p.read_text(errors="replace") for p in folder.iterdir())
    assert folder.stat().st_mode & 0o077 == 0
    again, _, _ = backlog.read(folder)
    np.testing.assert_array_equal(again.weights, done.weights)
    wardround = str(Path(sys.executable).with_name("wardround"))
    away = forked.run([wardround, *command[1:]], tmp_path)
    assert away.returncode == 7, away.stderr
    delivered = [wardround, *command[1:4], server.url, *command[5:]]
    assert forked.run(delivered, tmp_path).returncode == 0
    # The command that 0.1.0 printed still works, and what is there already is not written twice.
    assert undelivered.main([str(folder), server.url, EXPERIMENT, "later"]) == 0
    assert _steps(server, done) == [1, 2, 3, 4, 5]
    assert _run(server, done.study).info.status == "FINISHED"
    assert len(_client(server).search_model_versions("name = 'later'")) == 1


def _hand_in(tracker: MlflowTracker, done: Outcome) -> None:
    """Hands in all of `done` while the server is away, and sees that whoever hands in neither asks
    the server anything nor waits for the thread that does."""
    at_work: set[int] = set()

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            at_work.add(threading.get_ident())
            return method(*given)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name, method in inspect.getmembers(TrackedRun, inspect.isfunction):
            if not name.startswith("_"):
                patch.setattr(TrackedRun, name, noting(method))
        changed = tracker._courier._changed
        patch.setattr(changed, "wait", noting(changed.wait))
        for one in done.rounds:
            tracker.round(one)
        tracker.finish(done)
    assert threading.get_ident() not in at_work


def _steps(server: MlflowServer, done: Outcome) -> list[int]:
    run = _run(server, done.study).info.run_id
    return sorted(m.step for m in _client(server).get_metric_history(run, "system/seconds"))


def _types_within(kind: Any, seen: set[Any]) -> Iterator[tuple[type, str, Any]]:
    """(owner, field, type) of every field reachable from a dataclass; the study is public."""
    if kind in seen or kind is Study:
        return
    seen.add(kind)
    for argument in typing.get_args(kind):
        yield from _types_within(argument, seen)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            yield kind, field.name, hints[field.name]
            yield from _types_within(hints[field.name], seen)


def test_no_type_that_tracking_takes_has_room_for_one_site() -> None:
    found = [*_types_within(RoundReport, set()), *_types_within(Outcome, set())]
    assert {owner.__name__ for owner, _, _ in found} == {
        "RoundReport",
        "Outcome",
        "Estimate",
        "CalibrationPoint",
        "Answer",
        "OpenedScores",
        "Approvals",
        "AnalysisResult",
        "Figure",
        "ResultRow",
        "ResultTable",
        "SubgroupFigures",
        "LevelFigures",
        "Difference",
    }
    for owner, name, kind in found:
        assert not {"site", "sites", "client", "node", "patient"} & set(name.split("_")), name
        if typing.get_origin(kind) in (dict, Mapping) or kind in (dict, Any, object):
            assert name in ("metrics", "derived"), owner
            assert kind == dict[str, Estimate], owner


@pytest.mark.parametrize(
    "figures", [{"north": {"auc": 0.5}}, {"local": {"auc_north": 0.5}}, {"local": {"north": 0.5}}]
)
def test_what_a_study_is_compared_with_has_no_room_for_one_site(
    figures: dict[str, dict[str, float]],
) -> None:
    with pytest.raises(ValueError, match="baseline"):
        Baselines(figures)


@pytest.mark.parametrize("key", ["north", "auc_north", "north/auc", "CANARY-7f3a"])
def test_a_canary_cannot_be_handed_in(key: str) -> None:
    canary = {key: Estimate(0.5, 0.4, 0.6)}
    by_site: dict[str, Any] = {"by_site": canary}
    with pytest.raises(ValueError, match="metric"):
        dataclasses.replace(report(1), metrics=canary)
    with pytest.raises(ValueError, match="metric"):
        dataclasses.replace(outcome(study()), metrics=canary)
    with pytest.raises(TypeError):
        dataclasses.replace(report(1), **by_site)
    assert key not in METRICS


def test_trackers_take_public_documents_and_aggregates_only() -> None:
    kinds = (Study, Mapping[str, Any], str, RoundReport, Outcome, Baselines, float, int)
    allowed = {*kinds, backlog.Write}
    names = {name for name in vars(MlflowTracker) if not name.startswith("_")}
    assert names == {"begin", "round", "lost", "finish", "compared", "settle"}  # not waiting
    for name in names:
        hints = typing.get_type_hints(getattr(MlflowTracker, name))
        taken = {kind for argument, kind in hints.items() if argument != "return"}
        assert taken <= allowed, name


def test_who_is_waited_for_is_not_passed_on(server: MlflowServer) -> None:
    of = study()
    tracker = MlflowTracker(server.url, EXPERIMENT)
    tracker.begin(of, {}, "1")
    tracker.waiting("offline", ("CANARY-7f3a",))
    tracker.lost(1, 1, "CANARY-7f3a")
    tracker.settle()
    stored = server.database.read_bytes() + server.log.read_bytes()
    wal = server.database.with_name("mlflow.db-wal")
    stored += wal.read_bytes() if wal.exists() else b""
    assert of.digest.encode() in stored
    assert b"CANARY-7f3a" not in stored


def test_a_query_leaves_its_answers_and_no_model(server: MlflowServer, tmp_path: Path) -> None:
    question = Question.about("breast_cancer", where="malignant = 1", title="How many?").count()
    where = Where(tracking=server.url, experiment=EXPERIMENT, output=tmp_path / "outputs")
    answered = ask(question.histogram("mean_radius:4"), Price(epsilon=4.0), where)
    assert answered.receipt.missing == ()
    assert (answered.receipt.model, bool(answered.receipt.url)) == ("", True)
    run = _run(server, answered.outcome.study)
    (count,) = answered["patients"].counts
    assert run.data.metrics["patients/patients"] == count
    assert run.data.metrics["patients/patients_low"] < run.data.metrics["patients/patients_high"]
    assert run.data.metrics["epsilon"] == pytest.approx(4.0, rel=1e-3)
    note = run.data.tags["mlflow.note.content"]
    assert "malignant = 1" in note
    assert f"| patients | **{count:.4g}** |" in note
    told = json.loads(_artifact(server, run, "answers.json", tmp_path))
    assert told == answered.plain
    assert answered.outcome.study.digest.encode() in _artifact(
        server, run, "answers.html", tmp_path
    )
    document = _artifact(server, run, "study.json", tmp_path)
    assert Study.parse(document).query == answered.outcome.study.query
    assert not run.outputs.model_outputs
    assert run.info.status == "FINISHED"


def test_an_analysis_leaves_its_page_its_figures_and_its_tables(
    server: MlflowServer, tmp_path: Path
) -> None:
    question = glm(Question.about("breast_cancer"), "malignant = 1", ["mean_texture > 20"])
    where = Where(tracking=server.url, experiment=EXPERIMENT, output=tmp_path / "outputs")
    answered = ask(question, Price(epsilon=4.0), where)
    assert answered.receipt.missing == ()
    run = _run(server, answered.outcome.study)
    assert answered.analysis is not None
    logged = dict(metrics(answered.analysis))
    assert {name: run.data.metrics[name] for name in logged} == pytest.approx(logged)
    assert "### Coefficients" in run.data.tags["mlflow.note.content"]
    assert _artifact(server, run, "analysis.csv", tmp_path).decode() == answered.csv()
    assert _artifact(server, run, "analysis.html", tmp_path).decode() == answered.page()
    document = _artifact(server, run, "study.json", tmp_path)
    assert Study.parse(document).analysis == question.analysis
