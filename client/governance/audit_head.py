"""The head of the audit chain, kept outside the database: it shows when the database is older.

Order of writing, and what a power cut leaves: the database commits first, the head follows. A cut
between the two leaves a database one entry ahead of its head, which the next opening recognises
(the entry that the head names is still there) and repairs; nothing had been answered yet. A head
ahead of its database can only come from a database that lost entries: it was cut or an older copy
was put back. So there is no false alarm, and no loss that looks fine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from protocol import durable_files
from protocol.document import canonical
from protocol.errors import Code, WardroundError

GENESIS = "0" * 64
"""What the first entry of a chain has for its predecessor."""


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
        """None where there is no file. Raises WardroundError(LEDGER) where it is not a head."""
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
