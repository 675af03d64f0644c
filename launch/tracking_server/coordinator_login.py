"""How a coordinator logs in to a federation's MLflow: as `coordinator`, with a password of its own,
trusting its own CA. MLflow's client takes all three from the environment alone."""

from __future__ import annotations

import os

from protocol.errors import Code
from protocol.secret_files import read_secret
from server.coordinator.config import CoordinatorConfig

COORDINATOR = "coordinator"
"""Its name in MLflow."""
PASSWORD = "mlflow.password"  # noqa: S105 (a file's name)
"""The file in the coordinator's folder; where there is none, `tracking.uri` says all."""


def log_in(config: CoordinatorConfig) -> None:
    """For this process and those that it starts. Raises WardroundError(TRACKING) where others can
    read the password."""
    file = config.folder / PASSWORD
    if not file.exists():
        return
    again = "`wardround coordinator mlflow` makes another one once the file is removed."
    password = read_secret(file, "password", Code.TRACKING, remedy=again, exposed="remove it")
    os.environ["MLFLOW_TRACKING_USERNAME"] = COORDINATOR
    os.environ["MLFLOW_TRACKING_PASSWORD"] = password.decode("ascii", errors="replace").strip()
    os.environ["MLFLOW_TRACKING_SERVER_CERT_PATH"] = str(config.pki.ca_certificate)
