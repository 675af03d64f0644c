"""Two releases side by side: this tree, and a copy of it with one line more, as a next release
would have. What one of them runs is a process of its own, with that tree alone on its path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import HUNG

ROOT = Path(__file__).resolve().parents[3]
_PARTS = ("protocol", "client", "server", "tasks", "launch", "conf", "wardround", "tests/client")


@dataclass(frozen=True)
class Change:
    """A line of a file, and what stands in its place in the other release."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Ran:
    """What a script came to: its exit status and the last line that it printed."""

    status: int
    said: str


@dataclass(frozen=True)
class Release:
    """A tree that scripts can be run under."""

    tree: Path
    folder: Path

    def run(self, code: str, *arguments: object) -> Ran:
        """Runs `code` under this release. Raises RuntimeError where it finds no module or no name
        to import: then the script has to be corrected, and says nothing about the release."""
        script = self.folder / "script.py"
        script.write_text(code)
        done = subprocess.run(
            [sys.executable, str(script), *map(str, arguments)],
            cwd=self.tree,
            env=os.environ | {"PYTHONPATH": str(self.tree)},
            capture_output=True,
            text=True,
            timeout=HUNG,
        )
        lines = (done.stdout + done.stderr).strip().splitlines() or [""]
        said = lines[-1].replace(str(self.folder), "")[:230]
        if said.startswith(("ModuleNotFoundError", "ImportError")):
            raise RuntimeError(f"A script cannot run: {said}")
        return Ran(done.returncode, said)

    def prepare(self, code: str, *arguments: object) -> None:
        """Runs `code`, which only makes what a test looks at. Raises RuntimeError if it fails."""
        ran = self.run(code, *arguments)
        if ran.status != 0:
            raise RuntimeError(f"A test could not be prepared: {ran.said}")


def release(folder: Path, name: str, *changes: Change) -> Release:
    """A copy of this tree in `folder`, changed. Raises ValueError where a line is not there any
    longer: another one has to be found that serves the same purpose."""
    copy = folder / name
    for part in _PARTS:
        shutil.copytree(
            ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    for change in changes:
        path = copy / change.file
        text = path.read_text()
        if change.old not in text:
            raise ValueError(f"{change.file} no longer has the line {change.old!r}")
        path.write_text(text.replace(change.old, change.new, 1))
    return Release(copy, folder)


READ_STUDY = """
import sys
from protocol.study.study import Study
s = Study.parse(open(sys.argv[1], "rb").read())
print("read", s.digest)
"""
WRITE_STUDY = """
import sys
from pathlib import Path
from protocol.study.study import Study
s = Study.parse(Path(sys.argv[2]).read_bytes())
Path(sys.argv[1]).write_bytes(Study.model_validate(s.model_dump()).document)
print("written")
"""
WRITE_SITE = """
import sys
from pathlib import Path
from tests.client.hospital import Hospital, numbered
folder = Path(sys.argv[1])
h = Hospital.found(folder / "state")
a = h.accept(numbered(1)); h.debit(a, 1, 1)
b = h.accept(numbered(2)); h.approvals.close(b, "finished")
h.identity.save(folder / "identity.key")
h.state.close()
print("written")
"""
READ_SITE = """
import sys
from pathlib import Path
from tests.client.hospital import Hospital, numbered, policy
from protocol.identity import Identity
from client.governance.budget import budget
folder = Path(sys.argv[1])
h = Hospital.enter(folder / "state", Identity.load(folder / "identity.key"), daemon=True)
failed = []
for name, act in (
    ("recheck", h.approvals.recheck),
    ("studies", h.approvals.studies),
    ("ledger", lambda: budget(h.state, policy())),
    ("audit verify", h.audit.verify),
    ("revoke", lambda: h.approvals.revoke(h.approvals.find(h.approvals.studies()[0].digest)[0])),
):
    try:
        act()
    except Exception as error:
        failed.append(f"{name} ({type(error).__name__}: {str(error)[:60]})")
print("fails: " + ", ".join(failed) if failed else "all of it works")
sys.exit(bool(failed))
"""
READ_SITE_BACK = """
import re
import sys
from pathlib import Path
from tests.client.hospital import Hospital, policy
from protocol.errors import WardroundError
from protocol.identity import Identity
from client.governance.budget import budget
folder = Path(sys.argv[1])
said = set()
h = Hospital.enter(folder / "state", Identity.load(folder / "identity.key"), daemon=True)
for act in (
    h.approvals.studies,
    lambda: budget(h.state, policy()),
    h.audit.verify,
):
    try:
        act()
    except WardroundError as error:
        said.add(f"refused as {error.code.value}: {re.search('`.*?`', error.message)[0]}")
print(*said)
"""
SEND = """
import sys
from pathlib import Path
from protocol.wire import messages
m = messages.Prepare(
    study="a" * 64, round=1, attempt=1, train=True, evaluate=False, model="b" * 64
)
Path(sys.argv[1]).write_bytes(messages.frame(m).header)
print("sent")
"""
SEND_COMPRESSED = SEND.replace('model="b" * 64', 'model="b" * 64, compressed=True')
WRITE_CHECKPOINT = """
import sys
from pathlib import Path
import torch
from server.model.checkpoint import Checkpoint
Checkpoint(
    study="a" * 64, round=3, attempt=4, trainings=4, evaluations=1, weights=torch.arange(3.0),
    average=None, averaged=0, optimiser={}, control=None, lost=[], stopping=(None, None, 0),
    pending=None,
).save(Path(sys.argv[1]))
print("written")
"""
READ_CHECKPOINT = """
import re
import sys
from pathlib import Path
from protocol.errors import WardroundError
from server.model.checkpoint import Checkpoint
try:
    print("read round", Checkpoint.load(Path(sys.argv[1]), "a" * 64).round)
except WardroundError as error:
    print(f"refused as {error.code.value}: {re.search('`.*?`', error.message)[0]}")
"""
RECEIVE = """
import sys
from pathlib import Path
from protocol.wire import messages
print("read", messages.parse(messages.Frame(Path(sys.argv[1]).read_bytes())).type)
"""
ASK_FOR_THE_FOURTH_MODE = """
from types import SimpleNamespace
import numpy as np
from tests.client.hospital import study
from client.training.local_steps import RoundSteps, SiteContext
done = []
try:
    s = study(privacy__mode="shuffled", evaluation__noise_multiplier=50.0)
    trainer = SimpleNamespace(
        private_steps=lambda *a: done.append("private steps"),
        plain_steps=lambda *a: done.append("plain steps: no clipping, no noise"),
    )
    RoundSteps(SiteContext(s, "alpha", SimpleNamespace(), trainer), 1).of_study(
        np.zeros(31, np.float32)
    )
except Exception as error:
    done.append(f"refused: {type(error).__name__}")
print(done[-1])
"""
