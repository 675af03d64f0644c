"""The receiver's status, for `wardround-site status`: what the PACS sent, who was last, what room
is left.

The receiver writes it to state/receiver.json (0600, whole or not at all). It describes senders and
counts objects; no identifier of a patient, a study or an image is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from protocol import durable_files

FILE = "receiver.json"


@dataclass(frozen=True)
class ReceiverStatus:
    """A receiver's status at one moment. updated, last_time: UTC in ISO 8601. last_sender: AE
    title and address, "" for none yet. room: bytes above the floor of free space. counts: since
    the start, as the log counts them; refused, rejected: objects and associations, by reason.
    last_rejected: as last_sender."""

    title: str
    address: str
    updated: str
    listens: bool
    room: int
    last_sender: str
    last_time: str
    counts: Mapping[str, int]
    refused: Mapping[str, int]
    rejected: Mapping[str, int]
    last_rejected: str

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in self.counts.items() if n)
        last = (
            f"last by {self.last_sender} at {self.last_time}" if self.last_sender else "no sender"
        )
        state = f"{self.address} at {self.updated}" if self.listens else f"stopped {self.updated}"
        return (
            f"{self.title}, {state}: {counts or 'nothing yet'}; {last}; {self.room >> 30} GiB room"
        )


def write(state: Path, status: ReceiverStatus) -> None:
    """Replaces receiver.json, without fsync: after a power cut it is out of date anyway. Raises
    OSError."""
    durable_files.write(state / FILE, json.dumps(asdict(status)).encode(), durable=False)


def read(state: Path) -> ReceiverStatus | None:
    """What the receiver wrote last; None where it never ran, or what is there cannot be read: a
    receiver that runs writes it again within seconds."""
    try:
        return ReceiverStatus(**json.loads((state / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
