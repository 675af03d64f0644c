"""Checks of this machine: keys, user, state folder, disk, clock, processors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from client.checks.base import Check, CheckWarning
from client.config.site_config import SiteConfig
from client.governance.audit_replay import AuditEvent
from client.governance.governance import SiteGovernance
from client.transport.node_key import load_node_key
from protocol.errors import Code, WardroundError

_MIN_FREE = 256 * 2**20
_ENOUGH_FREE = 2 * 2**30
_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "glusterfs")
"""File systems on which SQLite's WAL does not work, since it needs shared memory
(sqlite.org/wal.html)."""


def machine_checks(config: SiteConfig, governance: SiteGovernance) -> Iterator[Check]:
    """Yields the checks, each after those that it depends on."""
    yield "keys", lambda: _keys(config)
    yield "roster", lambda: _roster(governance)
    yield "user", _user
    yield "ledger and clock", lambda: _ledger(governance)
    yield "audit log", lambda: _audit(governance)
    yield "disk", lambda: _disk(config.state)
    yield "processors", lambda: _processors(config)


def _keys(config: SiteConfig) -> str:
    config.load_identity()
    load_node_key(config.node_key)
    return "identity and node key are this site's, and private"


def _roster(governance: SiteGovernance) -> str:
    known = governance.roster.now()
    if attention := known.attention():
        raise CheckWarning(
            attention[0], "`wardround-site roster list` shows everybody's fingerprints."
        )
    return f"{len(known.confirmed)} hospitals, all confirmed"


def _user() -> str:
    if os.geteuid() == 0:
        raise CheckWarning("runs as root", "Run it as a user of its own, as the systemd unit does.")
    return f"uid {os.geteuid()}, unprivileged"


def _ledger(governance: SiteGovernance) -> str:
    """Writes an entry, which alone shows a full disk, an older copy or a clock set back."""
    governance.audit.append(AuditEvent.OPERATOR, command="check", uid=os.getuid())
    return "readable and writable, the newest copy, and the clock is not behind it"


def _audit(governance: SiteGovernance) -> str:
    return f"{governance.audit.verify()} entries, all intact"


def _disk(folder: Path) -> str:
    kind = _file_system(folder)
    if kind.startswith(_REMOTE):
        raise WardroundError(
            Code.STATE,
            f"The state folder lies on {kind}, a file system of another machine.",
            remedy="Move `state` to a local disk; SQLite's log is not safe there.",
        )
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE:
        raise WardroundError(
            Code.LEDGER,
            f"{free / 2**20:.0f} MiB are free for the state folder.",
            remedy="Make room: when the disk is full, training is refused.",
        )
    if free < _ENOUGH_FREE:
        raise CheckWarning(f"{free / 2**20:.0f} MiB free", "Make room before the disk is full.")
    return f"{free / 2**30:.0f} GiB free"


def _file_system(folder: Path) -> str:
    """Returns the type of the file system that `folder` lies on (proc(5), /proc/mounts)."""
    resolved, depth, innermost = folder.resolve(), 0, ""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split(" ")
        mount = Path(point.replace("\\040", " "))
        if resolved.is_relative_to(mount) and len(mount.parts) >= depth:
            depth, innermost = len(mount.parts), kind
    return innermost


def _processors(config: SiteConfig) -> str:
    here, threads = len(os.sched_getaffinity(0)), config.policy.threads
    if threads > here:
        found = f"policy.threads is {threads}, processors here: {here}"
        raise CheckWarning(found, "Lower policy.threads.")
    return f"{threads} of {here} processors"
