"""A file of published weights that an operator installs; its SHA-256 is checked before each use."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from protocol.errors import Code, WardroundError

_VARIABLE = "WARDROUND_WEIGHTS"


@dataclass(frozen=True)
class WeightsFile:
    """name: as its publisher names it. sha256: of its bytes. folder: below the folder of data."""

    name: str
    sha256: str
    folder: str

    @property
    def path(self) -> Path:
        """WARDROUND_WEIGHTS, a file or the folder it lies in; else in the folder of data."""
        if chosen := os.environ.get(_VARIABLE):
            given = Path(chosen).expanduser()
            return given / self.name if given.is_dir() else given
        home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        root = os.environ.get("WARDROUND_DATA") or f"{home}/wardround"
        return Path(root).expanduser() / self.folder / self.name

    def read(self) -> dict[str, Tensor]:
        """Name -> weights, as `torch.save` wrote them; no code in the file is run.

        Raises WardroundError: NO_DATA without the file, MALFORMED_DATA for another one.
        """
        remedy = f"Put the published {self.name} there, or set {_VARIABLE} to where it lies."
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise WardroundError(
                Code.NO_DATA,
                f"The weights {self.path} cannot be read: {error.strerror}.",
                remedy=remedy,
            ) from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"{self.path} is not the published file of weights (its SHA-256 differs).",
                remedy=remedy,
            )
        stored: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True)
        return stored
