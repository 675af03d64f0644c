"""The masked answer of each study's attempt in hand, stored before its first byte leaves.

A site that restarts has lost the one-time key of its attempt and can mask nothing any more. What it
had answered it can send again, byte for byte, to whoever asks the very same question; so a restart
costs no attempt, and two different answers of one attempt cannot leave. The key is never stored,
and the file says nothing that the answer does not say: the coordinator is about to have it.

One file a study, for the site's user alone (mode 0600). It goes when the study moves on: before the
next attempt is computed, when the study is closed, and at a start of the daemon without the study.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocol import durable_files
from protocol.document import canonical, digest
from protocol.wire import messages

FOLDER = "answers"
"""In the state folder."""
_DIGEST = 64


class StoredAnswers:
    """Those of one site; nothing is stored without a folder (simulated sites do not restart)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def keep(self, asked: messages.Collect, words: npt.NDArray[np.unsignedinteger]) -> None:
        """Durable on return: `words` answer `asked`. Raises OSError."""
        if self._folder is not None:
            durable_files.make_folder(self._folder)
            with durable_files.writing(self._path(asked.study)) as file:
                file.write(_question(asked))
                file.write(np.ascontiguousarray(words).view(np.uint8).data)

    def answer(self, asked: messages.Collect) -> npt.NDArray[np.uint8] | None:
        """The bytes that answered the same study, round, attempt and Readys; None for others."""
        if self._folder is None or not (path := self._path(asked.study)).exists():
            return None
        stored = path.read_bytes()
        if stored[:_DIGEST] != _question(asked):
            return None
        return np.frombuffer(stored, np.uint8, offset=_DIGEST)

    def forget(self, study: str) -> None:
        """The study with this digest moves on. Raises OSError."""
        if self._folder is not None:
            self._path(study).unlink(missing_ok=True)

    def sweep(self, running: Collection[str]) -> None:
        """Removes the answers of all studies but these. Raises OSError."""
        if self._folder is not None:
            for path in self._folder.glob("*"):
                if path.name not in running:
                    path.unlink()

    def _path(self, study: str) -> Path:
        return (self._folder or Path()) / study


def _question(asked: messages.Collect) -> bytes:
    return digest(canonical(asked.model_dump(mode="json"))).encode()
