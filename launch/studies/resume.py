"""Resumes an interrupted study: in process from its checkpoint, or follows it at a coordinator.

    wardround run --resume outputs/3f1c2a9b8d7e
    wardround run --resume 3f1c2a9b federation=deployment federation.credentials=me.json

The study is the same document with the same digest, so its privacy cost and its MLflow run
continue. It cannot be changed; only where it is tracked and how the coordinator is reached can.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from launch.config import compose
from launch.config.schema import Config
from launch.federations.deployment import RemoteFederation
from launch.studies.public_data import data_root
from launch.studies.run import FinishedStudy, credentials_of, run_deployment, run_inprocess
from launch.studies.run_folder import CHECKPOINT, CONFIGURATION, STUDY
from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from server.tracking.parameters import without_credentials
from tasks import registry

_CHANGEABLE = ("tracking.", "federation.")


def resume(where: str, overrides: Sequence[str], console: Console | None = None) -> FinishedStudy:
    """Resumes the study in a folder, or follows one at the coordinator by its digest.

    Raises WardroundError: USAGE where there is nothing to resume, CONFIGURATION for a key that
    would change the study, STATE for a damaged file; and what `launch.studies.run.run` raises.
    """
    folder = Path(where)
    if not folder.is_dir():
        return _at_coordinator(where, overrides, console)
    study, config = _read_folder(folder, overrides)
    if (folder / "summary.json").exists():
        raise WardroundError(
            Code.USAGE,
            f"The study in {folder} has finished.",
            remedy=f"Its result is in {folder / 'summary.json'}.",
        )
    config = replace(config, output=str(folder.resolve().parent))
    if config.federation.name == "deployment":
        with _remote(config) as remote:
            states = {row["study"]: row["state"] for row in remote.studies()}
        return _follow(study, states.get(study.digest), config, console)
    if not (folder / CHECKPOINT).exists():
        raise WardroundError(
            Code.USAGE,
            f"The study in {folder} has not finished a round.",
            remedy="Run it again from the beginning: nothing is lost.",
        )
    task = registry.load(config.task.name, config.task.options)
    tables = task.public_sites(data_root())
    return run_inprocess(config, task, tables, console, study=study)


def _read_folder(folder: Path, overrides: Sequence[str]) -> tuple[Study, Config]:
    for override in overrides:
        if not override.startswith(_CHANGEABLE):
            raise WardroundError(
                Code.CONFIGURATION,
                f"{override} would change a study that has begun.",
                remedy="Run a new study, or leave it out.",
            )
    try:
        study = Study.parse((folder / STUDY).read_bytes())
        text = (folder / CONFIGURATION).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WardroundError(
            Code.USAGE,
            f"{folder} holds no study: {Path(error.filename).name} is not there.",
            remedy="Name the folder of a study, such as outputs/3f1c2a9b8d7e.",
        ) from None
    if folder.resolve().name != study.digest[:12]:
        raise WardroundError(
            Code.STATE,
            f"{folder} is not named after the study in it.",
            remedy=f"Call it {study.digest[:12]}, as it was.",
        )
    config = compose.from_yaml(text, overrides)
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri and without_credentials(uri) == config.tracking.uri:
        config.tracking.uri = uri  # the file holds no password
    return study, config


def _at_coordinator(
    digest: str, overrides: Sequence[str], console: Console | None
) -> FinishedStudy:
    config = compose.load(overrides)
    if config.federation.name != "deployment":
        raise WardroundError(
            Code.USAGE,
            f"There is no folder {digest}.",
            remedy="Name the folder of an interrupted study, or the digest of a study at a "
            "coordinator together with federation=deployment.",
        )
    with _remote(config) as remote:
        rows = [row for row in remote.studies() if row["study"].startswith(digest)]
        if len(rows) != 1:
            raise WardroundError(
                Code.USAGE,
                f"{len(rows) or 'No'} studies at the coordinator begin with {digest}.",
                remedy="Give more of the digest, as summary.json or MLflow have it.",
            )
        study = Study.parse(canonical(remote.study(rows[0]["study"])["document"]))
    task = replace(config.task, name=study.task.name, options=dict(study.task.options))
    return _follow(study, rows[0]["state"], replace(config, task=task), console)


def _remote(config: Config) -> RemoteFederation:
    return RemoteFederation(credentials_of(config), address=config.federation.coordinator)


def _follow(
    study: Study, state: str | None, config: Config, console: Console | None
) -> FinishedStudy:
    """Follows a study at the coordinator, given its state there."""
    if state == "cancelled":
        raise WardroundError(
            Code.USAGE,
            "The study was cancelled, and every site has closed it.",
            remedy="Run a new one; federation.on_interrupt=leave keeps the next one running.",
        )
    return run_deployment(config, console, study=study)
