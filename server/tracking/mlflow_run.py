"""Writes one study's run to MLflow. The only module that imports MLflow.

Its methods take aggregates (`server.outcome`) and public documents, and are idempotent: after a
failure they are called again, and whatever was written before stays as it is.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import yaml

from protocol.extras import Extra, require
from protocol.identity import Identity
from protocol.models.record import ModelRecord, SignedRecord, digests_of
from protocol.study.study import Study
from protocol.terminal.printable import printable
from protocol.vectors import weights_digest
from server import released_model
from server.answers import analysis_page, analysis_report, query_report
from server.answers.query_page import page
from server.outcome import Baselines, Outcome, RoundReport
from server.report.figures import figures
from server.report.gates import judged
from server.report.model_card import WHOLE, Background, card, describe, describe_model
from server.tracking.delivery_queue import ServerAwayError
from server.tracking.parameters import without_credentials
from server.tracking.tags_and_metrics import (
    SECONDS,
    claims,
    final_metrics,
    opening_tags,
    parameters,
    round_metrics,
)
from tasks import registry
from tasks.schema import Image

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from tasks.base import Task

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOCK_MODEL_DEPENDENCIES": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Read by MLflow at import or call; variables that are set already win. No retries inside MLflow:
its seven with growing pauses take minutes, and the delivery queue tries again anyway."""

CANDIDATE = "candidate"
"""Alias of the version that was registered last, and awaits a reviewer's decision."""
_VIEW = "wardround"
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "auc",
    f"mlflow.sharedViewState.{_VIEW}": json.dumps(
        {
            "selectedColumns": [
                "metrics.`auc`",
                "metrics.`epsilon`",
                "attributes.`Models`",
                "params.`mode`",
            ]
        }
    ),
}
"""MLflow then shows runs and models first, not traces of a chat, and its address with
`viewStateShareKey` lists runs with these columns."""
_TRAINING = "?workflowType=machine_learning"
"""Of MLflow's pages: those for models, which is not what it opens with."""
STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_PACKAGES = ("wardround", "torch", "numpy", "pandas", "mlflow")
_METRICS_PER_CALL = 1000
_AGAIN = {408, 429}
P = ParamSpec("P")


def client_of(uri: str) -> MlflowClient:
    """MLflow's client, quiet. Imports MLflow, which takes seconds the first time.

    Raises WardroundError(CONFIGURATION) where MLflow is not installed.
    """
    require(Extra.MLFLOW)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _retriable(
    method: Callable[Concatenate[TrackedRun, P], None],
) -> Callable[Concatenate[TrackedRun, P], None]:
    """The method, with ServerAwayError where a retry may help; other errors are refusals."""

    def call(self: TrackedRun, /, *args: P.args, **kwargs: P.kwargs) -> None:
        from mlflow.exceptions import MlflowException
        from requests.exceptions import HTTPError, RequestException

        try:
            method(self, *args, **kwargs)
        except (MlflowException, HTTPError) as error:
            if isinstance(error, MlflowException):
                status = int(error.get_http_status_code())
            else:
                status = error.response.status_code if error.response is not None else 500
            if status >= 500 or status in _AGAIN:
                raise ServerAwayError(f"status {status}") from error
            raise
        except (RequestException, ConnectionError, TimeoutError) as error:
            raise ServerAwayError(type(error).__name__) from error

    return call


class TrackedRun:
    """The MLflow run of one study: found by the study's digest, made where there is none."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        model: str,
        study: Study,
        parent: str | None = None,
        signer: Identity | None = None,
        background: Background | None = None,
    ) -> None:
        """`model`: the name under which a finished study's model is registered. `parent`: the run
        of which this one is shown as a part. `signer`: what signs the model's record. `background`:
        what the model card says besides."""
        self._parent, self._signer = parent, signer
        self._background = background or Background()
        self._files: dict[str, str] = {}
        self._record: SignedRecord | None = None
        self._uri, self._experiment, self._model, self._study = uri, experiment, model, study
        self._run = self._experiment_id = self._model_id = self._version = ""
        self._written: frozenset[int] = frozenset()

    @property
    def url(self) -> str:
        """The run's page."""
        return run_page(self._uri, self._experiment_id, self._run) if self._run else ""

    @property
    def model_uri(self) -> str:
        """What `mlflow.pyfunc.load_model` takes; empty where no version is registered."""
        return f"models:/{self._model}/{self._version}" if self._version else ""

    @property
    def signer(self) -> str:
        """Fingerprint of the key that signed the model's record; empty where nobody did."""
        record = self._record
        return record.signer_fingerprint if record is not None and record.signer else ""

    @functools.cached_property
    def _client(self) -> MlflowClient:
        return client_of(self._uri)

    def connect(self) -> None:
        """Imports MLflow, which takes seconds the first time."""
        _ = self._client

    @_retriable
    def open(self, code_version: str) -> None:
        """Finds or makes the experiment and the run, and tags the run."""
        client, study = self._client, self._study
        self._experiment_id = experiment_id(client, self._experiment)
        where = f"tags.`wardround.study` = '{study.digest}'"
        runs = client.search_runs([self._experiment_id], filter_string=where, max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            client.update_run(self._run, status="RUNNING")
            history = client.get_metric_history(self._run, SECONDS)
            self._written = frozenset(point.step for point in history)
        else:
            run = client.create_run(
                self._experiment_id,
                tags=opening_tags(study, code_version, self._parent, self._background),
                run_name=f"{printable(study.title)[:200]} ({study.digest[:8]})",
            )
            self._run = run.info.run_id

    @_retriable
    def parameters(self) -> None:
        """What tells this training from another."""
        from mlflow.entities import Param

        there = self._client.get_run(self._run).data.params
        params = [Param(*known) for known in parameters(self._study).items()]
        self._client.log_batch(self._run, params=[p for p in params if p.key not in there])

    @_retriable
    def documents(self, configuration: Mapping[str, Any]) -> None:
        """The study as it was hashed, and the configuration it came from."""
        text = yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True)
        files = {"study.json": self._study.document, "configuration.yaml": text.encode()}
        upload(self._client, self._run, files)

    @_retriable
    def rounds(self, reports: Sequence[tuple[int, RoundReport]]) -> None:
        """(milliseconds since 1970, report) of each round; its number is MLflow's step."""
        points = [
            self._metric(name, value, when, report.round)
            for when, report in reports
            if report.round not in self._written
            for name, value in round_metrics(report)
        ]
        for start in range(0, len(points), _METRICS_PER_CALL):
            self._client.log_batch(self._run, metrics=points[start : start + _METRICS_PER_CALL])

    @_retriable
    def lost(self, round_: int, attempt: int) -> None:
        """How many spare attempts are left after this one, as a tag."""
        left = str(max(0, self._study.spare_left(round_, attempt)))
        self._client.set_tag(self._run, "wardround.spare_attempts_left", left)

    @_retriable
    def log_model(self, outcome: Outcome) -> None:
        """The aggregated weights as a pyfunc model, with signature and example.

        What a process before this one uploaded and did not record is uploaded again: only what was
        never anywhere else is signed.
        """
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        models = self._client.search_logged_models(
            [self._experiment_id], filter_string=f"source_run_id = '{self._run}'"
        )
        logged = (
            models[0]
            if models
            else self._client.create_logged_model(
                self._experiment_id,
                name=self._model,
                source_run_id=self._run,
                tags=claims(outcome),
                model_type="classifier",
            )
        )
        self._model_id = logged.model_id
        if self._model_id not in self._outputs():
            self._client.log_outputs(self._run, [LoggedModelOutput(self._model_id, step=0)])
        self._record = self._recorded(outcome)
        if self._record is None and not self._files:
            self._upload_model(outcome)
        if logged.status != LoggedModelStatus.READY:
            self._client.finalize_logged_model(self._model_id, LoggedModelStatus.READY)

    def _recorded(self, outcome: Outcome) -> SignedRecord | None:
        """The record of the version that there is; None where it has none that says what this
        process would: another's signature, other weights."""
        for registered in self._versions():
            record = SignedRecord.of_tags(registered.tags)
            if (
                record is not None
                and record.record.weights == weights_digest(outcome.weights)
                and (self._signer is None or record.is_signed_by(self._signer.public_key))
            ):
                return record
        return None

    def _versions(self) -> list[Any]:
        """This run's version of the registered model, if there is one."""
        mine = f"name = '{self._model}' and run_id = '{self._run}'"
        return list(self._client.search_model_versions(mine))

    def _outputs(self) -> list[str]:
        """The run's logged models, by identifier."""
        outputs = self._client.get_run(self._run).outputs
        return [model.model_id for model in outputs.model_outputs] if outputs else []

    def _upload_model(self, outcome: Outcome) -> None:
        """A pyfunc model that names its loader and its requirements: MLflow pickles nothing, and
        infers nothing, which would take minutes and the network."""
        import mlflow.pyfunc
        from mlflow.models import Model

        task = registry.load(self._study.task.name, self._study.task.options)
        with tempfile.TemporaryDirectory() as scratch:
            data, model = Path(scratch) / "data", Path(scratch) / "model"
            released_model.write(data, self._study, outcome.weights)
            said = describe(self._study, outcome, self._background)
            (data / released_model.CARD).write_text(said)
            mlflow.pyfunc.save_model(
                model,
                loader_module=released_model.__name__,
                data_path=data,
                mlflow_model=Model(run_id=self._run, model_id=self._model_id),
                signature=_signature(task),
                input_example=released_model.example(task.schema),
                pip_requirements=[f"{package}=={version(package)}" for package in _PACKAGES],
                metadata=claims(outcome),
            )
            files = digests_of(model)
            self._client.log_model_artifacts(self._model_id, str(model))
            self._files = files

    @_retriable
    def register(self, outcome: Outcome) -> None:
        """The logged model as the next version of the registered model, with its record."""
        from mlflow.entities import RunTag

        client, task = self._client, registry.load(self._study.task.name, self._study.task.options)
        if not client.search_registered_models(filter_string=f"name = '{self._model}'"):
            client.create_registered_model(self._model, description=task.title)
        versions = self._versions()
        created = (
            versions[0]
            if versions
            else client.create_model_version(
                self._model,
                source=f"models:/{self._model_id}",
                run_id=self._run,
                model_id=self._model_id,
                tags=claims(outcome),
                description=describe_model(outcome, task.schema, self._signer, self._background),
            )
        )
        self._version = str(created.version)
        if not versions:
            client.set_registered_model_alias(self._model, CANDIDATE, self._version)
        self._record = self._record or self._recorded_now(outcome)
        tags = self._record.tags | self._gates(outcome)
        for key, value in tags.items():
            client.set_model_version_tag(self._model, self._version, key, value)
        client.log_batch(self._run, tags=[RunTag(*tag) for tag in tags.items()])

    def _recorded_now(self, outcome: Outcome) -> SignedRecord:
        """The record of what this process uploaded."""
        record = ModelRecord(
            study=outcome.study.digest,
            model=self._model,
            version=self._version,
            weights=weights_digest(outcome.weights),
            files=self._files,
        )
        return SignedRecord.make(record, self._signer)

    @_retriable
    def unfinished(self, outcome: Outcome) -> None:
        """The weights of a study that did not finish, as artifacts only: they are neither logged
        as a model nor registered, so that nobody takes them for one."""
        with tempfile.TemporaryDirectory() as scratch:
            released_model.write(Path(scratch) / "data", self._study, outcome.weights)
            self._client.log_artifacts(self._run, str(Path(scratch) / "data"), "unfinished")

    @_retriable
    def final(self, outcome: Outcome, when: int) -> None:
        """Final metrics, epsilon, totals, and the description that a reviewer reads first."""
        from mlflow.entities import RunTag

        step, scored = 0, when
        if outcome.rounds:
            step = outcome.rounds[-1].round
            if outcome.metrics == outcome.rounds[-1].metrics:  # then it is no second point
                history = self._client.get_metric_history(self._run, SECONDS)
                scored = max((m.timestamp for m in history if m.step == step), default=when)
        points = [self._metric(name, of, scored, step) for name, of in final_metrics(outcome)]
        tags = claims(outcome) | self._gates(outcome) | self._card(outcome)
        self._client.log_batch(
            self._run, metrics=points, tags=[RunTag(key, value) for key, value in tags.items()]
        )

    def _gates(self, outcome: Outcome) -> dict[str, str]:
        """Tags that say which gates of the study hold."""
        return dict(gate.tag for gate in judged(outcome, self._background.launched_by))

    def _card(self, outcome: Outcome) -> dict[str, str]:
        """Writes the whole model card; the tag that holds as much of it as fits."""
        whole = card(self._study, outcome, self._background)
        upload(self._client, self._run, {WHOLE: whole.encode()})
        return {"mlflow.note.content": describe(self._study, outcome, self._background)}

    @_retriable
    def figures(self, outcome: Outcome) -> None:
        """What the study opened, as pictures and a table of thresholds."""
        upload(self._client, self._run, figures(outcome), "figures")

    @_retriable
    def baselines(self, baselines: Baselines, outcome: Outcome, when: int) -> None:
        """The first figure of other trainings, as `baseline_<which>_auc`, and in the cards."""
        first = self._study.outcome.compared[0]
        self._background = replace(self._background, baselines=baselines)
        points = [
            self._metric(f"baseline_{which}_{first}", figures[first], when, 0)
            for which, figures in baselines.figures.items()
            if which != "federated" and first in figures
        ]
        self._client.log_batch(self._run, metrics=points)
        for key, value in self._card(outcome).items():
            self._client.set_tag(self._run, key, value)
        if self._version:
            schema = registry.load(self._study.task.name, self._study.task.options).schema
            said = describe_model(outcome, schema, self._signer, self._background)
            self._client.update_model_version(self._model, self._version, said)

    @_retriable
    def answers(self, outcome: Outcome) -> None:
        """What a query came to: answers.json, and a page with bars; what it was read as:
        analysis.csv, and a page with plots."""
        text = json.dumps(query_report.plain(outcome), indent=2)
        files = {"answers.json": text.encode(), "answers.html": page(outcome).encode()}
        if (result := outcome.analysis) is not None:
            files["analysis.csv"] = analysis_report.to_csv(result).encode()
            files["analysis.html"] = analysis_page.page(outcome, result).encode()
        upload(self._client, self._run, files)

    @_retriable
    def end(self, status: str, when: int) -> None:
        """Closes the run: finished, failed or killed."""
        self._client.set_terminated(self._run, STATUS[status], when)

    def _metric(self, name: str, value: float, when: int, step: int) -> Metric:
        from mlflow.entities import Metric

        return Metric(name, float(value), when, step, model_id=self._model_id or None)


def experiment_id(client: MlflowClient, name: str) -> str:
    """The identifier of an experiment, which is made where there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name, tags=_EXPERIMENT_TAGS))
    for key, value in _EXPERIMENT_TAGS.items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return str(experiment.experiment_id)


def run_page(uri: str, experiment: str, run: str) -> str:
    """The address of a run's page, by the identifiers of experiment and run."""
    return f"{without_credentials(uri)}/#/experiments/{experiment}/runs/{run}{_TRAINING}"


def upload(
    client: MlflowClient, run: str, files: Mapping[str, bytes], folder: str | None = None
) -> None:
    """Writes files (name -> content) into a folder of the run's artifacts."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        client.log_artifacts(run, scratch, folder)


def attach(uri: str, run_page: str, files: Mapping[str, bytes], folder: str) -> None:
    """Files beside a finished run, by the address of its page (`TrackedRun.url`)."""
    upload(client_of(uri), run_page.rpartition("/")[2].removesuffix(_TRAINING), files, folder)


def _signature(task: Task) -> object:
    """The schema's columns -> those of a score."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType
    from mlflow.types import Schema as Columns

    types = {"number": DataType.double, "category": DataType.string}
    return ModelSignature(
        inputs=Columns(
            [
                *(ColSpec(types[c.kind], c.name) for c in task.schema.columns),
                *(ColSpec(_of_pictures(image), image.name) for image in task.schema.images),
            ]
        ),
        outputs=Columns([ColSpec(DataType.double, name) for name in task.outcome.score_columns]),
    )


def _of_pictures(image: Image) -> Any:
    """MLflow's type of a picture's column: a file, or a list of files."""
    from mlflow.types import DataType
    from mlflow.types.schema import Array

    return DataType.binary if image.most == 1 else Array(DataType.binary)
