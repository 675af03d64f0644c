"""`wardround-site`, whose every contribution is also written to a folder at the site.

    python recording_site.py FOLDER start --config site.yaml

For each attempt: `contribution` (before noise), `noise`, `share` (what is sent, masked), and the
`scores` of its own patients. The product knows nothing of this.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from client.cli.main import main
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from protocol.secagg.party import Party

_numbers = itertools.count()


def record(owner: type, name: str, folder: Path) -> None:
    """Wraps a method that returns an array."""
    original: Callable[..., Any] = getattr(owner, name)

    def recording(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        np.save(folder / f"{next(_numbers):04d}-{name}.npy", result)
        return result

    setattr(owner, name, recording)


if __name__ == "__main__":
    target = Path(sys.argv.pop(1))
    target.mkdir(mode=0o700)
    record(Contributor, "contribution", target)
    record(Contributor, "noise", target)
    record(Party, "share", target)
    record(DPTrainer, "_scored", target)
    main()
