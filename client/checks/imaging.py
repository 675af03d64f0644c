"""Checks of imaging: the index, what the gate excludes, the receiver's settings."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import partial

from client.checks.base import Check, CheckWarning
from client.config.imaging_config import Imaging
from client.config.site_config import SiteConfig
from client.daemon import receiver_status
from client.daemon.receiver_status import ReceiverStatus
from client.data.dicom.receive.settings import ReceiverSettings
from protocol.errors import Code, WardroundError
from protocol.extras import Extra, require
from protocol.secret_files import refuse_shared


def imaging_checks(config: SiteConfig) -> Iterator[Check]:
    """Yields no check for a site without `imaging`."""
    imaging = config.imaging
    if imaging is None:
        return
    yield "optional part imaging", _installed
    yield "pictures", lambda: _pictures(config, imaging)
    for folder in imaging.folders:
        yield f"folder {folder.name}", partial(_readable, str(folder))
    receiver = imaging.receiver
    if receiver is not None:
        yield "receiver", lambda: _receiver(receiver)
        if (status := receiver_status.read(config.state)) is not None:
            yield "senders", partial(_senders, status)
        yield "room for pictures", lambda: _free_space(config, imaging, receiver)


def _installed() -> str:
    require(Extra.IMAGING)
    return "installed"


def _pictures(config: SiteConfig, imaging: Imaging) -> str:
    from client.data.dicom.index import report
    from client.data.dicom.index.index import ImageIndex, exists

    if not exists(config.state):
        raise CheckWarning("nothing is indexed yet", "Run `wardround-site index`.")
    with ImageIndex.open(config.state, imaging.gate) as index:
        summary = report.of(index)
    if not summary.ready and not summary.kept_out:
        raise CheckWarning("nothing is indexed yet", "Run `wardround-site index`.")
    ready = f"{summary.ready} ready, of {summary.patients} patients"
    if not (excluded := sum(line.files for line in summary.kept_out)):
        return ready
    reasons = "; ".join(f"{line.files} {line.why}" for line in summary.kept_out[:4])
    more = f"; {len(summary.kept_out) - 4} more reasons" if len(summary.kept_out) > 4 else ""
    files = f"{excluded} files kept out: {reasons}{more}"
    raise CheckWarning(f"{ready}; {files}", "See `wardround-site images`.")


def _readable(folder: str) -> str:
    if not os.access(folder, os.R_OK):
        raise WardroundError(
            Code.NO_DATA,
            f"{folder} cannot be read.",
            remedy="Correct imaging.folders in site.yaml, or the permissions.",
        )
    return "can be read"


def _receiver(receiver: ReceiverSettings) -> str:
    if receiver.tls is not None:
        refuse_shared(receiver.tls.key, "receiver's key", Code.TLS)
    if not receiver.calling:
        raise CheckWarning("nobody may send", "Name AE titles in imaging.receiver.calling.")
    host, port = receiver.address
    try:
        socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, port), 2).close()  # noqa: S104 (compared with, not bound)
    except OSError:
        raise CheckWarning(
            f"nothing listens on {receiver.listen}", "Run `wardround-site receive`."
        ) from None
    plain = "" if receiver.tls else ", without TLS"
    return f"listens on {receiver.listen} for {', '.join(receiver.calling)}{plain}"


def _senders(status: ReceiverStatus) -> str:
    """What the receiver refused and whom, since it started."""
    stored = f"{status.counts.get('stored', 0)} objects stored"
    by = (
        f"last by {status.last_sender} at {status.last_time}" if status.last_sender else "by nobody"
    )
    refused = [f"{number} objects refused: {why}" for why, number in status.refused.items()]
    rejected = [f"{number} associations rejected: {why}" for why, number in status.rejected.items()]
    if status.rejected:
        rejected.append(f"the last of them by {status.last_rejected}")
    if not refused and not rejected:
        return f"{stored}, {by}"
    raise CheckWarning(
        "; ".join([stored, by, *refused, *rejected]),
        "If that sender is yours, name its title in imaging.receiver.calling; what is refused "
        "stays at the sender: mend the reason, and send it again.",
    )


def _free_space(config: SiteConfig, imaging: Imaging, receiver: ReceiverSettings) -> str:
    folder = imaging.store(config.state) or config.state
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < receiver.floor:
        raise WardroundError(
            Code.STATE,
            f"{free / 2**30:.1f} GiB are free where pictures go, less than receiver.floor.",
            remedy="Make room: until then every object is refused.",
        )
    return f"{(free - receiver.floor) / 2**30:.0f} GiB above receiver.floor"
