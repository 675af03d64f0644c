"""The interface by which the round loop reaches the sites, the same for every federation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from protocol.wire.messages import Frame


class Fleet(Protocol):
    """The sites of a federation, by roster name."""

    def online(self) -> frozenset[str]:
        """Names of the sites that can be asked now."""

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        """Sends each site its frame and yields each answer as it comes.

        None stands for a site that is gone or did not answer within `timeout` seconds. Every site
        asked is yielded once. A frame's body may be an iterator that is consumed once.
        """
