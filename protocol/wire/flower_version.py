"""The one supported Flower release, checked before Flower is imported.

Flower's internals move with every release, and both adapters stand on some of them (checked one by
one in tests/server/transport/test_flower_contract.py), so another release is refused by name
instead of failing somewhere in the middle of a study.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import PackageNotFoundError, version

from protocol.errors import Code, WardroundError

FLOWER_VERSION = "1.42.0"
FLOWER_WIRE = "1.41.0"
"""The Flower release that both sides state in every call: the first whose messages are these, so
that a site and a coordinator need not be upgraded at once."""

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def require_flower() -> None:
    """Silences Flower's calls home and its console log; call it before the first `import flwr`.

    Raises WardroundError(FLWR_VERSION) unless exactly FLOWER_VERSION is installed.
    """
    os.environ.update(_QUIET)
    try:
        installed = version("flwr")
    except PackageNotFoundError:
        installed = "none"
    if installed != FLOWER_VERSION:
        raise WardroundError(
            Code.FLWR_VERSION,
            f"wardround speaks Flower {FLOWER_VERSION}; installed here: {installed}.",
            remedy=f"Install flwr=={FLOWER_VERSION} into this environment.",
        )
    logger = logging.getLogger("flwr")
    # Flower adds its own console handler when it is imported. The filter outlives that, and what
    # is worth knowing of a connection is in our own event log, by event and without contents.
    if _not_flower_chatter not in logger.filters:
        logger.addFilter(_not_flower_chatter)


def _not_flower_chatter(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.CRITICAL
