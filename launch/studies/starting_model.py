"""The released model that a study starts from, read where the study is built.

    start.model=models:/breast_cancer/3               a registered version, in MLflow
    start.model=breast_cancer-3.safetensors           a file that `wardround export` wrote

It must be signed by a coordinator whose key is trusted here, or be the version whose digest the
configuration names; nothing else stands behind a file.
"""

from __future__ import annotations

import os
from pathlib import Path

from launch.config.schema import Config
from launch.federations.login import kept_credentials
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.models.bundle import Bundle
from protocol.models.starting_model import StartingModel
from protocol.study.study import Study
from protocol.vectors import Layout, Vector, pack, weights_digest
from server import released_model
from server.enrolment.signing_key import public_half
from server.tracking import registered_model

_REGISTERED = "models:/"


def starting_model(config: Config) -> StartingModel | None:
    """What `start.model` names; None where it names none.

    Raises WardroundError: CONFIGURATION where neither a key nor a digest vouches for it, WEIGHTS
    where it was changed, is signed by another or has another digest than `start.digest`; and as
    `Bundle.read` or `registered_model.fetched`.
    """
    if not config.start.model:
        return None
    tracking = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    return _read(config.start.model, config.start.digest, _key(config), tracking)


def starting_weights(config: Config) -> Vector | None:
    """(P,) float32 of `starting_model`; None where a study draws its own."""
    found = starting_model(config)
    return None if found is None else found.weights


def _key(config: Config) -> bytes | None:
    """Of the coordinator that is trusted: named, or of the credentials that are used or kept."""
    if named := config.start.key:
        return public_half(named)
    for file in (
        config.federation.credentials,
        os.environ.get(registered_model.CREDENTIALS),
        kept_credentials(),
    ):
        if file and Path(file).expanduser().exists():
            return public_half(file)
    return None


def _read(model: str, stated: str, key: bytes | None, tracking: str) -> StartingModel:
    if key is None and not stated:
        raise WardroundError(
            Code.CONFIGURATION,
            f"start.model={model}: nothing vouches for this model.",
            remedy="Name its coordinator's credentials or bundle with start.key, or the digest of "
            "the version that you mean with start.digest.",
        )
    if model.startswith(_REGISTERED):
        found = _registered(model, key, stated, tracking)
    else:
        found = _file(model, key)
    if stated and found.start.record != stated:
        raise WardroundError(
            Code.WEIGHTS,
            f"start.model={model} has the digest {found.start.record}, and start.digest is "
            "another.",
            remedy="Compare with what `wardround models verify` or `wardround export` shows.",
        )
    return found


def _file(model: str, key: bytes | None) -> StartingModel:
    if key is None:
        raise WardroundError(
            Code.CONFIGURATION,
            f"start.model={model} is a file, of which the coordinator's signature is checked.",
            remedy="Name its coordinator's credentials or bundle with start.key.",
        )
    bundle = Bundle.read(Path(model).expanduser(), key)
    return StartingModel.of(bundle.name, bundle.digest, bundle.study, bundle.weights)


def _registered(model: str, key: bytes | None, stated: str, tracking: str) -> StartingModel:
    """Every file is compared with the record, and the record with the key or the digest."""
    with registered_model.fetched(model, tracking, key, bool(stated)) as found:
        signed = found.record
        if signed is None or f"{registered_model.DATA}/{released_model.STUDY}" not in (
            signed.record.files
        ):
            raise WardroundError(
                Code.WEIGHTS,
                f"{model} was registered without its study, so that nobody can tell what it cost.",
                remedy="An earlier release registered it: train it again with this one.",
            )
        data = found.folder / registered_model.DATA
        study = Study.parse((data / released_model.STUDY).read_bytes())
        tensors = released_model.tensors(data / released_model.WEIGHTS)
        layout = Layout(tuple((name, tensor.shape) for name, tensor in tensors.items()))
        weights, record = pack(tensors, layout), signed.record
        stands = (study.digest, weights_digest(weights)) == (record.study, record.weights)
        if not stands or layout.digest != study.model.layout:
            raise WardroundError(
                Code.WEIGHTS,
                f"{model} is not as it was registered: its study or weights are not what its "
                "record says.",
                remedy="Do not use it: ask who keeps MLflow who changed it.",
            )
        name = f"{record.model}/{record.version}"
        return StartingModel.of(name, digest(signed.text.encode()), study, weights)
