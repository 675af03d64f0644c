"""The command that release 0.1.0 named for what MLflow did not take; it is
`wardround tracking deliver` now, and this module goes with the next release."""

from __future__ import annotations

import sys
from pathlib import Path

from protocol.errors import WardroundError
from server.tracking.tracker import deliver


def main(arguments: list[str]) -> int:
    """FOLDER URI EXPERIMENT [MODEL]. Exit status: 0 delivered, 7 something is missing, 2 usage."""
    if len(arguments) not in (3, 4):
        print("python -m server.undelivered FOLDER URI EXPERIMENT [MODEL]", file=sys.stderr)
        return 2
    folder, uri, experiment, *model = arguments
    try:
        receipt = deliver(Path(folder), uri, experiment, model[0] if model else None)
    except WardroundError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(receipt.url if not receipt.missing else f"Missing: {receipt.missing}. {receipt.remedy}")
    return 7 if receipt.missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
