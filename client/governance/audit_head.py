"""The head of the audit chain, stored outside the database to detect an older copy of it.

database commits ──▶ head.json is written ──▶ the site answers

head equal to the newest entry     normal
head names an earlier entry        power cut between the two writes; nothing was answered yet,
                                   and the next write repairs it
head names no entry there is       the database lost entries: it was cut, or an older copy was
                                   put back
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from protocol import durable_files
from protocol.document import canonical
from protocol.errors import Code, WardroundError

GENESIS = "0" * 64
"""Stands for the hash before the first entry of a chain."""


@dataclass(frozen=True)
class ChainHead:
    """Number and hash of the newest entry known to be durable; (0, GENESIS) before the first."""

    seq: int
    hash: str

    def write(self, path: Path) -> None:
        """Raises OSError."""
        durable_files.write(path, canonical({"hash": self.hash, "seq": self.seq}))

    @staticmethod
    def read(path: Path) -> ChainHead | None:
        """Returns None without a file. Raises WardroundError(LEDGER) where it holds no head."""
        try:
            fields = json.loads(path.read_bytes())
            return ChainHead(int(fields["seq"]), str(fields["hash"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise WardroundError(
                Code.LEDGER,
                f"{path} is damaged, so that an older ledger could not be told from this one.",
                remedy="Run `wardround-site ledger acknowledge` after reading what it charges.",
            ) from None
