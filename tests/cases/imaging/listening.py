"""A real `wardround-site receive` on a free loopback port, and a sender to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynetdicom import AE

from tests.client.data.dicom.running_receiver import Process, site

SECONDS = 60
"""After which a peer that says nothing is given up."""


class Listening(Process):
    """For what the title CASES sends, over 16 associations at most."""

    def __init__(self, folder: Path) -> None:
        try:
            super().__init__(site(folder, calling=["CASES"], associations=16))
        except AssertionError as silent:  # not the one that a test here is expected to fail by
            if self.process.poll() is None:
                self.kill()
            raise RuntimeError("the receiver did not start") from silent


@contextmanager
def association(receiver: Process, *contexts: Any) -> Iterator[Any]:
    """contexts: SOP classes, or pairs of a SOP class and a transfer syntax."""
    entity = AE("CASES")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS
    entity.connection_timeout = SECONDS
    for context in contexts:
        entity.add_requested_context(*(context if isinstance(context, tuple) else (context,)))
    made = entity.associate("127.0.0.1", receiver.port, ae_title="WARDROUND")
    try:
        yield made
    finally:
        if made.is_established:
            made.release()
        if made.is_alive():
            made.join(SECONDS)
