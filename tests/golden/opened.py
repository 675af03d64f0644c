"""Golden files as tests use them: copied, with the permissions that git does not keep."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import Code

HERE = Path(__file__).resolve().parent
PLUG_IN = HERE / "plug_in"
RELEASES = sorted(path.name for path in HERE.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", path.name))
"""Every release whose files are here."""


def code_of(name: str, usual: Code) -> Code:
    """How a hostile twin is refused: what only another release can have written, by that name."""
    return Code.RELEASE if re.search(r"unknown_field|_format_\d", name) else usual


@dataclass(frozen=True)
class Golden:
    """What one release left behind."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def expected(self) -> dict[str, Any]:
        """What the files say, as the release that wrote them said it."""
        found: dict[str, Any] = self.json("expected.json")
        return found

    @property
    def states(self) -> dict[str, str]:
        """Where each study stands at the hospital. 0.1.0 said `closed` of each that had ended; how
        it ended is in the audit log, and its coordinator knew it too."""
        said = self.expected
        return {
            study: said["coordinator"][study] if state == "closed" else state
            for study, state in said["states"].items()
        }

    def copy(self, name: str, target: Path) -> Path:
        """A file or folder, for its owner only, in `target`."""
        made = target / Path(name).name
        if (self.folder / name).is_dir():
            shutil.copytree(self.folder / name, made)
        else:
            shutil.copyfile(self.folder / name, made)
        for path in (made, *(made.rglob("*") if made.is_dir() else ())):
            path.chmod(0o700 if path.is_dir() else 0o600)
        return made


def names(release: str, pattern: str) -> list[str]:
    """Files of a release, relative to its folder, for parameters of tests."""
    folder = HERE / release
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))


def everywhere(pattern: str) -> list[tuple[str, str]]:
    """(release, file) of every release."""
    return [(release, name) for release in RELEASES for name in names(release, pattern)]
