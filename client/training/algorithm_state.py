"""What an algorithm keeps at a site from round to round, committed with the attempts that count.

SCAFFOLD's control variate, FedBN's own layers, Ditto's own model: one (P,) float32 vector. That of
attempt n passes through these states:

    begin(n) --> propose --> proposed --> share --> shared --> begin(n + 1)
                                |                               |  n counted: n is the vector,
                                | no share                      |  older ones are removed
                                v                               |  n was lost: n is removed,
                             removed at the next begin          v  the older one is the vector

so site and server commit the same attempts. In a folder, a proposal is durable before the site
answers Ready, and a daemon that restarts continues with it. A coordinator that lies about lost
attempts makes a site train from an older vector, which costs accuracy, but no privacy: in private
modes every attempt was debited. The vector may be as revealing as the records: it never leaves the
site, and only the site's user can read the files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from protocol.document import canonical
from protocol.durable_files import make_folder, move, write, writing
from protocol.errors import Code, WardroundError
from protocol.vectors import Vector

FOLDER, PERSONAL = "kept", "personal"
"""Folders of the state folder: of studies that run, and of models that stay when one has ended."""


class AlgorithmState:
    """One site's vector of one study; in memory, or in `folder` as well."""

    def __init__(self, folder: Path | None = None, parameters: int | None = None) -> None:
        """Raises WardroundError(STATE) where the stored vector is damaged or not (parameters,)."""
        self._folder = folder
        self._shared: dict[int, Vector] = {}
        self._attempt = 0
        self._proposed: Vector | None = None
        self.personal: Vector | None = None
        """The site's own model at the end of the study, where its algorithm makes one."""
        if folder is not None and folder.is_dir():
            for path in sorted(folder.glob("shared-*.npy")):
                attempt = int(path.stem.removeprefix("shared-"))
                self._shared[attempt] = _read(path, parameters)
            if (folder / "personal.npy").exists():
                self.personal = _read(folder / "personal.npy", parameters)

    @property
    def vector(self) -> Vector | None:
        """What the site has, (P,) float32; None before the first round that counted."""
        return self._shared[max(self._shared)] if self._shared else None

    def begin(self, attempt: int, lost: Collection[int]) -> None:
        """A new attempt: forgets what was proposed and never shared, and what was lost. A
        coordinator that was killed may begin an attempt again: it did not count the first time."""
        self._attempt, self._proposed = attempt, None
        counted = (n for n in self._shared if n < attempt and n not in lost)
        last = max(counted, default=None)
        gone = [number for number in self._shared if number != last]
        for number in gone:
            del self._shared[number]
        if self._folder is not None and self._folder.is_dir():
            for path in self._folder.glob("proposed-*.npy"):
                path.unlink()
            for number in gone:
                (self._folder / f"shared-{number}.npy").unlink(missing_ok=True)

    def propose(self, vector: Vector) -> None:
        """What the site will have if the attempt in hand counts. Raises OSError."""
        self._proposed = vector
        if self._folder is not None:
            make_folder(self._folder)
            _write(self._folder / f"proposed-{self._attempt}.npy", vector)

    def share(self) -> None:
        """The site is about to send its share of the attempt in hand. Raises OSError."""
        if self._proposed is None:
            return
        self._shared[self._attempt], self._proposed = self._proposed, None
        if self._folder is not None:
            proposed = self._folder / f"proposed-{self._attempt}.npy"
            move(proposed, self._folder / f"shared-{self._attempt}.npy")

    def keep_model(self, vector: Vector, figures: Mapping[str, Any]) -> None:
        """The site's own model and what it scores here beside the released one. Raises OSError."""
        self.personal = vector
        if self._folder is not None:
            make_folder(self._folder)
            write(self._folder / "figures.json", canonical(figures) + b"\n")
            _write(self._folder / "personal.npy", vector)

    def close(self, study: bytes, *, finished: bool) -> None:
        """The study has ended: its own model, if there is one and the study finished, goes to
        personal/<digest>/ as weights.npy, study.json and figures.json; the rest is removed."""
        if self._folder is None or not self._folder.is_dir():
            return
        if finished and (self._folder / "personal.npy").exists():
            target = self._folder.parent.parent / PERSONAL / self._folder.name
            make_folder(target)
            write(target / "study.json", study)
            move(self._folder / "figures.json", target / "figures.json")
            move(self._folder / "personal.npy", target / "weights.npy")
        shutil.rmtree(self._folder)


def algorithm_state_in(state: Path, study: str, parameters: int) -> AlgorithmState:
    """What a daemon keeps in its state folder of the study with this digest."""
    return AlgorithmState(state / FOLDER / study, parameters)


def sweep(state: Path, running: Collection[str]) -> None:
    """Removes what studies left that were revoked or closed while the daemon was not there."""
    for folder in (state / FOLDER).glob("*"):
        if folder.name not in running:
            shutil.rmtree(folder)


def figures_of(folder: Path) -> dict[str, Any]:
    """What `close` left in personal/<digest>/figures.json; empty where it cannot be read."""
    try:
        figures = json.loads((folder / "figures.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return figures if isinstance(figures, dict) else {}


def _write(path: Path, vector: Vector) -> None:
    with writing(path) as file:
        np.save(file, vector, allow_pickle=False)


def _read(path: Path, parameters: int | None) -> Vector:
    try:
        vector = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        vector = np.empty(0)  # of another type: refused below
    if vector.dtype != np.float32 or (parameters is not None and vector.shape != (parameters,)):
        raise WardroundError(
            Code.STATE,
            f"{path} is damaged or another model's.",
            remedy="Remove it: the site's part of the algorithm then starts again from nothing.",
        )
    checked: Vector = vector
    return checked
