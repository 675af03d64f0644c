"""How a site fetches the bundle of an approved model from its coordinator, beside any study.

POST /v1/models/DIGEST           signed as the calls of the Fleet API are; without a body
wardround-part: OFFSET/LENGTH    what is wanted of the file
200  wardround-part: SIZE        its bytes from OFFSET on, LENGTH at most
404                              no such model is offered
"""

from __future__ import annotations

from pathlib import Path

PREFIX = "/v1/models"
LONGEST_PART = 2 << 20
"""Bytes of a part that are handed out at most."""
LARGEST = 1 << 30
"""Bytes of a bundle that is offered, or taken."""


def file_of(folder: Path, digest: str) -> Path:
    """Where a bundle lies, here and there. digest: as `Bundle.digest`."""
    return folder / f"{digest}.safetensors"
