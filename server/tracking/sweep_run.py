"""A sweep in MLflow: one parent run, below which the studies' runs stand, with figure and table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from protocol.errors import Code, WardroundError
from server.tracking.mlflow_run import client_of
from server.tracking.parameters import without_credentials
from server.tracking.tracker import require_answer

T = TypeVar("T")
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class TrackedSweep:
    """The parent run. What MLflow does not take at the end lies beside the sweep's own files."""

    def __init__(self, uri: str, experiment: str, name: str, keys: Mapping[str, str]) -> None:
        """Opens the run. keys: swept key -> its values, as parameters.

        Raises WardroundError(TRACKING) where the server is away or refuses.
        """
        self._uri = uri.rstrip("/")
        require_answer(self._uri)
        self._client = client_of(self._uri)
        self._experiment = _or_away(self._uri, lambda: self._found(experiment))
        run = _or_away(
            self._uri,
            lambda: self._client.create_run(
                self._experiment, run_name=name, tags={"wardround.sweep": name}
            ),
        )
        self.run: str = run.info.run_id
        _or_away(self._uri, lambda: self._parameters(keys))

    @property
    def url(self) -> str:
        """The run's page."""
        base = without_credentials(self._uri)
        return f"{base}/#/experiments/{self._experiment}/runs/{self.run}"

    def finish(self, status: str, files: Mapping[str, bytes], metrics: Mapping[str, float]) -> None:
        """Adds files and figures of the whole sweep, and closes the run.

        Raises WardroundError(TRACKING).
        """
        _or_away(self._uri, lambda: self._finish(status, files, metrics))

    def _parameters(self, keys: Mapping[str, str]) -> None:
        for key, values in keys.items():
            self._client.log_param(self.run, f"sweep.{key}", values)

    def _finish(
        self, status: str, files: Mapping[str, bytes], metrics: Mapping[str, float]
    ) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self.run, name, value)
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                (Path(scratch) / name).write_bytes(content)
            if os.listdir(scratch):
                self._client.log_artifacts(self.run, scratch, "sweep")
        self._client.set_terminated(self.run, _STATUS[status])

    def _found(self, experiment: str) -> str:
        found = self._client.get_experiment_by_name(experiment)
        return str(found.experiment_id if found else self._client.create_experiment(experiment))


def _or_away(uri: str, call: Callable[[], T]) -> T:
    """The call's result. MLflow's own errors may quote what was sent; ours names the server."""
    try:
        return call()
    except Exception as error:
        raise WardroundError(
            Code.TRACKING,
            f"MLflow at {without_credentials(uri)} did not take a sweep's run "
            f"({type(error).__name__}).",
            remedy="Check its log and tracking.uri, or run untracked with tracking=off.",
        ) from None
