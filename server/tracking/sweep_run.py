"""A sweep in MLflow: a parent run with figure and table, whose children are its studies' runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from protocol.errors import Code, WardroundError
from server.tracking.mlflow_run import STATUS, client_of, experiment_id, run_page, upload
from server.tracking.parameters import without_credentials
from server.tracking.tracker import require_answer

T = TypeVar("T")


class TrackedSweep:
    """The parent run of a sweep. The files that it holds are on this machine too."""

    def __init__(self, uri: str, experiment: str, name: str, keys: Mapping[str, str]) -> None:
        """Opens the run. keys: swept key -> its values, as parameters.

        Raises WardroundError(TRACKING) where the server is away or refuses.
        """
        self._uri = uri.rstrip("/")
        require_answer(self._uri)
        self._client = client_of(self._uri)
        self._experiment = _or_away(self._uri, lambda: experiment_id(self._client, experiment))
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
        return run_page(self._uri, self._experiment, self.run)

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
        if files:
            upload(self._client, self.run, files, "sweep")
        self._client.set_terminated(self.run, STATUS[status])


def _or_away(uri: str, call: Callable[[], T]) -> T:
    """The call's result; an error names the server, since MLflow's own may quote what was sent."""
    try:
        return call()
    except Exception as error:
        raise WardroundError(
            Code.TRACKING,
            f"MLflow at {without_credentials(uri)} did not take a sweep's run "
            f"({type(error).__name__}).",
            remedy="Check its log and tracking.uri, or run untracked with tracking=off.",
        ) from None
