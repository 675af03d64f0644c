"""The DICOM receiver as a service: it stores what arrives and indexes each complete study."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from client.config.site_config import SiteConfig
from client.daemon import receiver_status
from client.daemon.receiver_status import ReceiverStatus
from client.daemon.status import utc
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.receive.object_store import ObjectStore
from client.data.dicom.receive.receiver import Receiver
from client.data.dicom.receive.study_handover import StudyHandover
from client.log_events import event
from protocol.errors import Code, WardroundError
from protocol.operations.monitoring import Monitoring, Sample, resident_bytes

_EVERY = 5.0
"""Seconds between two writings of the status."""


class ReceiverService:
    """A receiver that listens inside `with`.

    Raises WardroundError(CONFIGURATION) without imaging.receiver, and what its parts raise.
    """

    def __init__(self, site: SiteConfig) -> None:
        imaging = site.imaging
        if imaging is None or imaging.receiver is None:
            raise WardroundError(
                Code.CONFIGURATION,
                "site.yaml has no imaging.receiver.",
                remedy="Add it with ae_title, listen and calling; `wardround-site init` shows how.",
            )
        self.settings = imaging.receiver
        self._imaging, self._state = imaging, site.state
        self._folder = imaging.store(site.state) or site.state
        self._exits = ExitStack()
        self._ended = threading.Event()
        self._indexed = 0

    @property
    def title(self) -> str:
        return self.settings.ae_title

    @property
    def address(self) -> str:
        return str(self.settings.address._replace(port=self._port))

    def __enter__(self) -> ReceiverService:
        with ExitStack() as exits:
            index = ImageIndex.open(self._state, self._imaging.gate)
            names = index.names
            index.close()
            store = ObjectStore.open(self._folder, names, self.settings.floor)
            exits.callback(store.close)
            self._arrivals = StudyHandover(self._folder, self.settings.quiet, self._take_in)
            self.receiver = Receiver(self.settings, store, self._arrivals.note)
            self._port = self.receiver.start()
            exits.callback(self._arrivals.close)
            exits.callback(self.receiver.stop)
            self._arrivals.start()
            telling = threading.Thread(target=self._tell, name="status", daemon=True)
            telling.start()
            exits.callback(telling.join)
            exits.callback(self._ended.set)
            if self.settings.metrics is not None:
                metrics = Monitoring(self.settings.metrics, self._health, self._figures)
                exits.enter_context(metrics)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def summary(self) -> dict[str, int]:
        """Returns counts for a status line or a log, without identifiers."""
        counts = self.receiver.counts
        return {
            "stored": counts.kept["new"] + counts.kept["beside"],
            "beside_another": counts.kept["beside"],
            "sent_again": counts.kept["again"],
            "not_needed": counts.dropped.total(),
            "refused": counts.refused.total(),
            "associations": counts.associations,
            "rejected": sum(counts.rejected.values())
            + self.receiver.tls_failures
            + self.receiver.refused_connections,
            "studies_waiting": self._arrivals.waiting,
            "images_ready": self._indexed,
        }

    def _health(self) -> tuple[bool, dict[str, object]]:
        """Well while there is room for what is sent."""
        room = self.room()
        return room > 0, {
            "title": self.title,
            "address": self.address,
            "room_bytes": room,
            "last_sender": self.receiver.counts.last_sender,
        }

    def room(self) -> int:
        """Bytes that may still be stored before the floor of free space is reached."""
        return max(0, shutil.disk_usage(self._folder).free - self.settings.floor)

    def status(self) -> ReceiverStatus:
        """What is true now."""
        counts = self.receiver.counts
        last = datetime.fromtimestamp(counts.last_time, UTC).isoformat(timespec="seconds")
        return ReceiverStatus(
            title=self.title,
            address=self.address,
            updated=utc(),
            listens=not self._ended.is_set(),
            room=self.room(),
            last_sender=counts.last_sender,
            last_time=last if counts.last_sender else "",
            counts=self.summary(),
            refused=dict(counts.refused),
            rejected=dict(counts.rejected),
            last_rejected=counts.last_rejected,
        )

    def _tell(self) -> None:
        while True:
            ending = self._ended.wait(_EVERY)
            with suppress(OSError):  # of a full disk the log tells
                receiver_status.write(self._state, self.status())
            if ending:
                return

    def _figures(self) -> Iterator[Sample]:
        name, waits = "wardround_receiver", "studies_waiting"
        for key, value in self.summary().items():
            meaning = f"{key.replace('_', ' ').capitalize()}, as the log counts them."
            if key in (waits, "images_ready"):
                yield Sample(f"{name}_{key}", "gauge", meaning, value)
            else:
                yield Sample(f"{name}_{key}", "counter", meaning, value)
        last = self.receiver.counts.last_time
        yield Sample(f"{name}_last_sender_seconds", "gauge", "When one last associated.", last)
        yield Sample(f"{name}_room_bytes", "gauge", "Room above the floor.", self.room())
        yield Sample(f"{name}_resident_bytes", "gauge", "Memory.", resident_bytes())

    def _take_in(self, studies: Sequence[Path]) -> None:
        with ImageIndex.open(self._state, self._imaging.gate) as index:
            tally = bring_up_to_date(
                index,
                [study for study in studies if study.is_dir()],
                workers=self._imaging.workers,
                words=frozenset(self._imaging.words),
                stop=self._arrivals.ending,
            )
        self._indexed = tally.verdicts.get("", 0)
        if tally.read or tally.gone:
            kept_out = sum(tally.verdicts.values()) - self._indexed
            event("indexed", files=tally.read, ready=self._indexed, kept_out=kept_out)
