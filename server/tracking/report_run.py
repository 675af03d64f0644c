"""A run of its own that carries a report: a sweep's, whose children are its studies' runs, or an
audit's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

from protocol.errors import Code, WardroundError
from server.tracking.mlflow_run import STATUS, client_of, experiment_id, run_page, upload
from server.tracking.parameters import without_credentials
from server.tracking.tracker import require_answer, server_address

T = TypeVar("T")
ReportKind = Literal["sweep", "audit"]


class ReportRun:
    """A run in MLflow. The files that it holds are on this machine too."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        kind: ReportKind,
        name: str,
        parameters: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Opens the run. Raises WardroundError: CONFIGURATION for an address that is no server's,
        TRACKING where the server is away or refuses."""
        self._uri, self._kind = server_address(uri), kind
        require_answer(self._uri)
        self._client = client_of(self._uri)
        self._experiment = self._or_away(lambda: experiment_id(self._client, experiment))
        named = {f"wardround.{kind}": name, **(tags or {})}
        run = self._or_away(
            lambda: self._client.create_run(self._experiment, run_name=name, tags=named)
        )
        self.run: str = run.info.run_id
        self._or_away(lambda: self._parameters(parameters))

    @property
    def url(self) -> str:
        """The run's page."""
        return run_page(self._uri, self._experiment, self.run)

    def finish(
        self,
        status: str,
        files: Mapping[str, bytes],
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Adds the report's files, in a folder of its kind, and its figures; closes the run.

        Raises WardroundError(TRACKING).
        """
        self._or_away(lambda: self._finish(status, files, metrics, tags or {}))

    def _parameters(self, parameters: Mapping[str, str]) -> None:
        for key, value in parameters.items():
            self._client.log_param(self.run, key, value)

    def _finish(
        self,
        status: str,
        files: Mapping[str, bytes],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self.run, name, value)
        for name, text in tags.items():
            self._client.set_tag(self.run, name, text)
        if files:
            upload(self._client, self.run, files, self._kind)
        self._client.set_terminated(self.run, STATUS[status])

    def _or_away(self, call: Callable[[], T]) -> T:
        """The call's result; an error names the server, since MLflow's own may quote what was
        sent."""
        try:
            return call()
        except Exception as error:
            raise WardroundError(
                Code.TRACKING,
                f"MLflow at {without_credentials(self._uri)} did not take the {self._kind}'s run "
                f"({type(error).__name__}).",
                remedy="Check its log and tracking.uri, or run untracked with tracking=off.",
            ) from None
