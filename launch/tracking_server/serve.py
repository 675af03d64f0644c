"""Serves a federation's MLflow over TLS 1.3, with MLflow's basic-auth app behind `roles`."""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn

from launch.demo.mlflow_app import OpensOnRuns
from launch.tracking_server.people import People
from launch.tracking_server.roles import ByRole
from launch.tracking_server.settings import Settings
from launch.tracking_server.users import OPERATOR, Users
from protocol import durable_files
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.extras import Extra, require
from server.enrolment.certificates import read_key

_BASIC_AUTH = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{home}/basic_auth.db
admin_username = {operator}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 300
"""


def serve(home: Path) -> None:
    """Until SIGTERM or Ctrl-C. MLflow reads where its data lie when it is imported.

    Raises WardroundError: CONFIGURATION for mlflow.yaml or people.json, TLS for the certificate,
    TRACKING where the store does not open.
    """
    require(Extra.MLFLOW)
    settings = Settings.load(home)
    people = People(settings.home)
    parts = {name: person.part for name, person in people.all().items()}
    read_key(settings.private_key)
    address = settings.address
    rules = settings.home / "basic_auth.ini"
    durable_files.write(rules, _BASIC_AUTH.format(home=settings.home, operator=OPERATOR).encode())
    inside = secrets.token_urlsafe(24)
    os.environ.update(
        {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ENABLE_WORKSPACES": "false",
            "MLFLOW_AUTH_CONFIG_PATH": str(rules),
            "MLFLOW_AUTH_ADMIN_PASSWORD": inside,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{Address.parse(address).host},{address}",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"https://{address}",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
    )
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = settings.database
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = str(settings.home / "artifacts")
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    from mlflow.exceptions import MlflowException
    from mlflow.server import auth
    from mlflow.server.handlers import initialize_backend_stores
    from sqlalchemy.exc import SQLAlchemyError

    try:
        initialize_backend_stores(settings.database, default_artifact_root="mlflow-artifacts:/")
        app = auth.create_app()
        users = Users(auth.store, inside, parts)
    except (MlflowException, SQLAlchemyError) as error:
        raise WardroundError(
            Code.TRACKING,
            f"MLflow's store does not open ({type(error).__name__}).",
            remedy=f"Is the database of `store` in {settings.home / 'mlflow.yaml'} there, and its "
            "user allowed to make tables?",
        ) from None
    served = ByRole(OpensOnRuns(app), people, users)
    listen = Address.parse(settings.listen)
    config = uvicorn.Config(
        served,
        host=listen.host,
        port=listen.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.private_key,
        server_header=False,
        ssl_context_factory=_newest_tls,
    )
    uvicorn.Server(config).run()


def _newest_tls(config: uvicorn.Config, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = make()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
