"""A released model as one file that is checked without a network: safetensors, and no code.

    tensors     weights/NAME and, where a model has parameters that are not trained, frozen/NAME
    metadata    the study as it was hashed, the card, the tensors' order, and the record with the
                coordinator's signature, under the names that its tags have in MLflow; of an
                approved model the reviewer's decision too, in the coordinator's signed entry

All of it follows from what was signed: the record holds the digests of study, weights and card, the
study those of the layout and of the frozen parameters. What does not is refused, as is a key that
this release does not know: nothing in a bundle is unchecked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save

from protocol.document import canonical, digest, read_json
from protocol.errors import Code, WardroundError, unwritable
from protocol.models.decision import (
    ENTRY,
    ENTRY_SIGNATURE,
    OpenedEntry,
    SignedEntry,
    require_approved,
)
from protocol.models.record import RECORD, SIGNATURE, SIGNER, SignedRecord
from protocol.release import cannot_work_together, unknown_field
from protocol.study.study import Study
from protocol.untrusted import parsing
from protocol.vectors import Layout, Vector, digest_of_tensors, pack, unpack, weights_digest

FORMAT = "1"
CARD = "data/data/card.md"
"""The card among a registered model's files, as its record names it."""
_BUNDLE, _STUDY, _CARD, _LAYOUT = (
    "wardround.bundle",
    "wardround.study",
    "wardround.card",
    "wardround.layout",
)
_SIGNED = (RECORD, SIGNER, SIGNATURE, ENTRY, ENTRY_SIGNATURE)
_KEYS = frozenset({_BUNDLE, _STUDY, _CARD, _LAYOUT, *_SIGNED})
_WEIGHTS, _FROZEN = "weights/", "frozen/"
_LONGEST = 1 << 33
_HEADER = 8
"""Bytes that state the length of the metadata, little-endian."""
_AGAIN = "Do not use it; take the bundle again from who exported it."
Tensors = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model of one study. weights: (P,) float32 in the order of `layout`; frozen: by name, empty
    where everything was trained. card: Markdown. approval: a reviewer's, as the coordinator signed
    it; None where nobody had decided when it was exported."""

    signed: SignedRecord
    study: Study
    card: str
    layout: Layout
    weights: Vector
    frozen: Tensors
    approval: OpenedEntry | None = None

    @property
    def digest(self) -> str:
        """Names this version of the model: SHA-256 of the record that was signed."""
        return digest(self.signed.text.encode())

    @property
    def name(self) -> str:
        """The registered model and its version."""
        return f"{self.signed.record.model}/{self.signed.record.version}"

    @property
    def weights_by_name(self) -> Tensors:
        """The parameters that were trained, as views of `weights`."""
        return unpack(self.weights, self.layout)

    def to_bytes(self) -> bytes:
        """The file's content."""
        tensors = {_WEIGHTS + n: np.ascontiguousarray(a) for n, a in self.weights_by_name.items()}
        tensors |= {_FROZEN + n: np.ascontiguousarray(a) for n, a in self.frozen.items()}
        order = canonical([[name, list(shape)] for name, shape in self.layout.entries])
        metadata = {
            _BUNDLE: FORMAT,
            _STUDY: self.study.document.decode(),
            _CARD: self.card,
            _LAYOUT: order.decode(),
            **self.signed.tags,
            **({} if self.approval is None else self.approval.signed.tags),
        }
        return save(tensors, metadata)

    def write(self, path: Path) -> None:
        """Raises WardroundError(USAGE) where the file is there already or cannot be written."""
        try:
            with path.open("xb") as file:
                file.write(self.to_bytes())
        except OSError as error:
            raise unwritable(path, error) from None

    @staticmethod
    def read(path: Path, trusted: bytes) -> Bundle:
        """A bundle whose every part follows from a record that the holder of `trusted`, a
        coordinator's public signing key of 32 bytes, has signed.

        Raises WardroundError: NO_DATA for a file that cannot be read, WEIGHTS for one that is no
        bundle, was changed or is signed by another, REFUSED_POLICY for an approval that is of
        another model or not signed, RELEASE for a newer release's.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_LONGEST)
        except OSError as error:
            raise WardroundError(
                Code.NO_DATA,
                f"The bundle {path} cannot be read: {error.strerror}.",
                remedy="Name a file that `wardround export` wrote.",
            ) from None
        return Bundle.parse(data, trusted, str(path))

    @staticmethod
    def parse(data: bytes, trusted: bytes, what: str) -> Bundle:
        """As `read`, of a file's content. what: its name in errors."""
        with parsing(f"{what} is no bundle, or a damaged one.", Code.WEIGHTS, _AGAIN):
            metadata = _metadata(data)
            found = safetensors.deserialize(data)  # type: ignore[no-untyped-call]  # it has no types
            tensors = {name: _tensor(tensor) for name, tensor in found}
        signed = SignedRecord.of_tags(metadata)
        if signed is None or not signed.is_signed_by(trusted):
            signer = "nobody" if signed is None else signed.signer_fingerprint
            raise WardroundError(
                Code.WEIGHTS,
                f"{what} is not signed by the coordinator that is trusted here (by {signer}).",
                remedy="Is it another coordinator's, or has the coordinator a new key? Compare "
                "with what `wardround coordinator bundle` shows.",
            )
        approval = None
        if (entry := SignedEntry.of_tags(metadata)) is not None:
            approval = require_approved(what, entry, digest(signed.text.encode()), trusted)
        record, text, card = signed.record, metadata[_STUDY].encode(), metadata[_CARD]
        _require(what, digest(text) == record.study, "study")
        _require(what, digest(card.encode()) == record.files.get(CARD), "card")
        study, order = Study.parse(text), metadata[_LAYOUT].encode()
        _require(what, digest(order) == study.model.layout, "order of weights")
        layout = Layout(tuple((name, tuple(shape)) for name, shape in read_json(order)))
        weights, frozen = _named(tensors, _WEIGHTS), _named(tensors, _FROZEN)
        shapes = [(name, weights[name].shape) for name, _ in layout.entries if name in weights]
        same = len(tensors) == len(shapes) + len(frozen) and tuple(shapes) == layout.entries
        _require(what, same, "list of tensors")
        flat = pack(weights, layout)
        _require(what, weights_digest(flat) == record.weights, "weights")
        _require(what, digest_of_tensors(frozen) == study.model.frozen, "frozen parameters")
        return Bundle(signed, study, card, layout, flat, frozen, approval)


def _require(what: str, same: bool, part: str) -> None:
    if not same:
        raise WardroundError(
            Code.WEIGHTS,
            f"{what} was changed: its {part} is not what was signed.",
            remedy=_AGAIN,
        )


def _metadata(data: bytes) -> dict[str, str]:
    """Raises what parsing does, and WardroundError(RELEASE) for what a newer release wrote."""
    length = int.from_bytes(data[:_HEADER], "little")
    found: dict[str, str] = json.loads(data[_HEADER : _HEADER + length])["__metadata__"]
    if found[_BUNDLE] != FORMAT:
        raise cannot_work_together(None, f"The bundle has another format than {FORMAT}.")
    for key in sorted(found.keys() - _KEYS):
        raise unknown_field(key, "The bundle")
    return {key: str(found[key]) for key in (_BUNDLE, _STUDY, _CARD, _LAYOUT)} | {
        key: str(found.get(key, "")) for key in _SIGNED
    }


def _tensor(found: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    if found["dtype"] != "F32":
        raise ValueError
    return np.frombuffer(found["data"], dtype="<f4").astype(np.float32).reshape(found["shape"])


def _named(tensors: Tensors, prefix: str) -> dict[str, npt.NDArray[np.float32]]:
    return {n.removeprefix(prefix): a for n, a in tensors.items() if n.startswith(prefix)}
