"""Reads a registered model from MLflow: checks all of it against its record, and then loads it.

Nothing that came with the model is run, whatever it is: MLflow's loader imports the module that an
MLmodel file names, from code that may lie beside it, and unpickles; this one reads the weights and
the name of an installed task.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.models.decision import SignedEntry, require_approved
from protocol.models.record import SignedRecord
from server import released_model
from server.enrolment.signing_key import public_half
from server.released_model import ReleasedModel
from server.tracking.mlflow_run import client_of
from server.tracking.parameters import without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

CREDENTIALS = "WARDROUND_CREDENTIALS"
APPROVED = "approved"
"""Alias of the version that a reviewer has approved; it counts only with the signed decision."""
_ADDRESS = re.compile(r"models:/([^/@]+)(?:/([0-9]{1,9})|@approved)")
DATA = "data/data"
"""Where MLflow puts the folder that `released_model.write` made."""
_MOST = 100
"""Files that are listed before a model counts as changed; a record names 50 at most."""
_STOP = "Do not use it: ask who keeps MLflow and its artifact store who changed it."


@dataclass(frozen=True)
class FetchedModel:
    """A registered model's files in a folder, compared with its record if there is one. is_signed:
    whether a key that the caller trusts signed it. tags: as MLflow has them, unchecked."""

    address: str
    record: SignedRecord | None
    is_signed: bool
    tags: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class VerifiedModel:
    """A registered model whose every file is as its record says."""

    address: str
    record: SignedRecord
    is_signed: bool
    """Whether a key that the caller trusts signed the record; if not, nobody vouches for it."""
    tags: Mapping[str, str]


def verify(
    address: str,
    *,
    key: str | Path | None = None,
    unsigned: bool = False,
    tracking_uri: str | None = None,
) -> VerifiedModel:
    """Checks a registered model. Arguments and errors are those of `load`, but a model without a
    record is always refused, and without a key so is every model, unless `unsigned`."""
    trusted = _trusted(key) if unsigned else required_key(key)
    with fetched(address, tracking_uri, trusted, unsigned) as found:
        if found.record is None:
            raise _unrecorded(address, "Train it again with this release, to have one.")
        return VerifiedModel(found.address, found.record, found.is_signed, found.tags)


def required_key(key: str | Path | None) -> bytes:
    """The public key that must have signed. Raises WardroundError(CREDENTIALS) without one."""
    if (trusted := _trusted(key)) is None:
        raise WardroundError(
            Code.CREDENTIALS,
            "There is no key to verify the model's signature with.",
            remedy="Name your credentials or the coordinator's bundle with --key (or in "
            f"{CREDENTIALS}), or compare the files with their record alone: --unsigned.",
        )
    return trusted


def load(
    address: str,
    *,
    key: str | Path | None = None,
    unsigned: bool = False,
    tracking_uri: str | None = None,
) -> ReleasedModel:
    """A registered model, as it was registered or not at all.

    address: `models:/NAME/VERSION`, or `models:/NAME@approved` for the version that a reviewer has
    approved, which takes a key. key: the coordinator's public signing key in hexadecimal, or a
    file with it (credentials, a bundle); default: the file that WARDROUND_CREDENTIALS names, if it
    holds one. With a key, only what it signed is loaded, unless `unsigned`. Without, the files are
    compared with the record in MLflow, and a warning says that nobody vouches for that. `unsigned`
    also loads a model of wardround 0.1.0, which has no record. tracking_uri: MLflow's server;
    default: MLFLOW_TRACKING_URI.

    Raises WardroundError: WEIGHTS where the model is not as it was registered, or not signed; USAGE
    for an address that names no version; TRACKING where MLflow does not have it or does not answer;
    CREDENTIALS for a file without a key; REFUSED_POLICY
    where no reviewer has approved what the alias names; and what `released_model.load` raises.
    """
    with fetched(address, tracking_uri, _trusted(key), unsigned) as found:
        record = found.record
        if record is None and not unsigned:
            raise _unrecorded(address, "If it is of wardround 0.1.0: load(..., unsigned=True).")
        if not found.is_signed:
            warnings.warn(
                f"{address} is not verified: "
                + ("it has no record." if record is None else "no key trusted here signed it."),
                stacklevel=2,
            )
        return released_model.load(found.folder / DATA)


def _trusted(key: str | Path | None) -> bytes | None:
    """The public key that must have signed. A file that is named must hold one; credentials in the
    environment may be of a coordinator that had none."""
    if key is not None:
        return public_half(key)
    try:
        return public_half(os.environ[CREDENTIALS])
    except (KeyError, WardroundError):
        return None


@contextmanager
def fetched(
    address: str, tracking_uri: str | None, trusted: bytes | None, unsigned: bool
) -> Iterator[FetchedModel]:
    """A model as MLflow has it, its files in a folder that goes with the block. Arguments and
    errors are those of `load`, with the public key itself as `trusted`."""
    asked = _ADDRESS.fullmatch(address)
    if asked is None:
        raise WardroundError(
            Code.USAGE,
            f"{address} does not name a version of a registered model.",
            remedy="Give models:/NAME/VERSION, such as models:/breast_cancer/1, or "
            "models:/NAME@approved. Any other alias can be moved to another version.",
        )
    by_alias = asked[2] is None
    with _reading(address, tracking_uri) as uri:
        client = client_of(uri)
        name, number = asked[1], asked[2] or _aliased(client, address, asked[1])
        tags = dict(client.get_model_version(name, number).tags)
        source = client.get_model_version_download_uri(name, number)
    address = f"models:/{name}/{number}"
    record = SignedRecord.of_tags(tags)
    is_signed = record is not None and trusted is not None and record.is_signed_by(trusted)
    if record is not None and (record.record.model, record.record.version) != (name, number):
        raise _changed(address, "its record is another version's")
    if record is not None and trusted is not None and not is_signed and not unsigned:
        raise WardroundError(
            Code.WEIGHTS,
            f"{address} is not signed by the coordinator whose key was given (by "
            f"{record.signer_fingerprint}).",
            remedy="Is it another coordinator's, or has the coordinator a new key? Compare with "
            "what `wardround coordinator bundle` shows. A study that ran without a coordinator is "
            "not signed: unsigned=True (--unsigned) accepts that.",
        )
    if by_alias:
        _require_approval(address, record, SignedEntry.of_tags(tags), trusted)
    with tempfile.TemporaryDirectory(prefix="wardround-model-") as scratch:
        with _reading(address, uri):
            _download(address, _repository(source, uri), record, Path(scratch))
        yield FetchedModel(address, record, is_signed, tags, Path(scratch))


def aliased(model: str, tracking_uri: str | None = None) -> str:
    """The version that MLflow calls approved, whether a reviewer signed that or not. Raises as
    `load` does."""
    with _reading(f"models:/{model}@{APPROVED}", tracking_uri) as uri:
        return _aliased(client_of(uri), f"models:/{model}@{APPROVED}", model)


def tags_of(client: MlflowClient, model: str, version: str) -> dict[str, str] | None:
    """Of a version; None where MLflow has it no longer. Raises what MLflow's client raises."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_model_version(model, version).tags)
    except MlflowException as error:
        if error.get_http_status_code() == 404:
            return None
        raise


def _aliased(client: MlflowClient, address: str, model: str) -> str:
    aliases: dict[str, Any] = client.get_registered_model(model).aliases
    if APPROVED not in aliases:
        raise WardroundError(
            Code.REFUSED_POLICY,
            f"{address} names no version: none of {model} is approved.",
            remedy="A reviewer decides with `wardround review approve NAME VERSION --reason ...`.",
        )
    return str(aliases[APPROVED])


def _require_approval(
    address: str, record: SignedRecord | None, decision: SignedEntry | None, trusted: bytes | None
) -> None:
    if trusted is None or record is None:
        raise WardroundError(
            Code.CREDENTIALS,
            f"Whether a reviewer has approved {address} cannot be told without the coordinator's "
            "public key.",
            remedy="Name your credentials or the coordinator's bundle with key= (--key).",
        )
    require_approved(address, decision, digest(record.text.encode()), trusted)


def _download(
    address: str, store: ArtifactRepository, record: SignedRecord | None, folder: Path
) -> None:
    """The files that the record names, which must be all there are; without a record, those that
    `released_model.load` reads. One by one, so that no name that the store gives is a path here."""
    wanted: dict[str, str | None] = {
        f"{DATA}/{name}": None for name in (released_model.REFERENCE, released_model.WEIGHTS)
    }
    if record is not None:
        wanted = dict(record.record.files)
        if (there := _listed(store)) != set(wanted):
            raise _changed(address, f"{len(there ^ set(wanted))} files are missing or too many")
    for name, noted in wanted.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        store._download_file(name, str(target))
        if noted is not None and digest(target.read_bytes()) != noted:
            raise _changed(address, f"{name} is not what was registered")


def _listed(store: ArtifactRepository) -> set[str]:
    """The paths of all files in the store, _MOST at most."""
    files: set[str] = set()
    folders: list[str | None] = [None]
    for folder in folders:
        for entry in store.list_artifacts(folder):
            if entry.is_dir:
                folders.append(entry.path)
            else:
                files.add(entry.path)
        if len(files) + len(folders) > _MOST:
            break
    return files


def _repository(source: str, uri: str) -> ArtifactRepository:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(source, tracking_uri=uri)


@contextmanager
def _reading(address: str, tracking_uri: str | None) -> Iterator[str]:
    """The address of MLflow's server; errors of it, which may quote a password, as our own."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise WardroundError(
            Code.CONFIGURATION,
            "It is not said where MLflow is.",
            remedy="Set MLFLOW_TRACKING_URI, or name the server with tracking_uri (--tracking).",
        )
    client_of(uri)
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield uri
    except (MlflowException, RequestException, OSError) as error:
        raise WardroundError(
            Code.TRACKING,
            f"MLflow at {without_credentials(uri)} does not give {address} "
            f"({type(error).__name__}).",
            remedy="Check name and version, the server, and user and password (in the address, or "
            "in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD).",
        ) from None


def _changed(address: str, what: str) -> WardroundError:
    message = f"{address} is not as it was registered: {what}."
    return WardroundError(Code.WEIGHTS, message, remedy=_STOP)


def _unrecorded(address: str, remedy: str) -> WardroundError:
    return WardroundError(
        Code.WEIGHTS, f"{address} has no record to be checked against.", remedy=remedy
    )
