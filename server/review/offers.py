"""Which bundles the sites may fetch: those of every version whose last decision is an approval.

    state/models/DIGEST.safetensors

MLflow is where a bundle is made from. One that was withdrawn or rejected since is taken away; a
site that has it already hears of the decision over its connection.
"""

from __future__ import annotations

from pathlib import Path

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.housekeeping import reason
from protocol.models.decision import DecisionHistory, OpenedEntry
from protocol.wire.offered_models import LARGEST, file_of
from server.tracking.model_export import export

FOLDER = "models"


class Offers:
    """One coordinator's folder. For one thread."""

    def __init__(self, folder: Path, key: bytes) -> None:
        """key: the coordinator's public signing key."""
        self._folder, self._key = folder, key

    def follow(self, uri: str, history: DecisionHistory) -> None:
        """Makes what is lacking, out of the MLflow at `uri`, and takes away what is not approved.

        Raises WardroundError for the first bundle that cannot be made, once all others are there:
        as `export` does, STATE where the folder cannot be written or a bundle is too large.
        """
        last = {one.decision.record: one for one in history.entries}
        standing = {d: one for d, one in last.items() if one.decision.verdict == "approved"}
        errors = list[WardroundError]()
        try:
            durable_files.make_folder(self._folder)
            kept = {file_of(self._folder, record) for record in standing}
            for path in set(self._folder.iterdir()) - kept:
                path.unlink()
            for path in sorted(kept):
                if not path.exists():
                    errors += self._make(uri, standing[path.stem], path)
        except OSError as error:
            raise WardroundError(
                Code.STATE,
                f"Models cannot be offered to the sites: {reason(error)}.",
                remedy=f"Make room for {self._folder}. Sites take a model as a file meanwhile.",
            ) from None
        for first in errors:
            raise first

    def _make(self, uri: str, one: OpenedEntry, path: Path) -> list[WardroundError]:
        said, partial = one.decision, path.with_suffix(".new")
        try:
            address = f"models:/{said.model}/{said.version}"
            export(address, partial, key=self._key.hex(), tracking_uri=uri)
            if partial.stat().st_size > LARGEST:
                raise WardroundError(
                    Code.STATE,
                    f"The bundle of {said.model}/{said.version} is too large to be offered.",
                    remedy="Give it to the hospitals as a file: `wardround export`.",
                )
            durable_files.move(partial, path)
        except WardroundError as error:
            return [error]
        finally:
            partial.unlink(missing_ok=True)
        return []
