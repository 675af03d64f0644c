"""Pictures: public DICOM files beside dcmtk's rendering of them.

WARDROUND_DATA=... python bench/renderings.py

renderings_too_far   files of which some pixel lies more than 2 of 255 from what dcmtk shows, over
                     its own decoder or another (bench/support/renderings.py); exceptions, each
                     with its section of the standard, are listed there and not counted
"""

from __future__ import annotations

import sys

from support.figure import figure
from support.renderings import BAR, EXCEPTIONS, compared


def main() -> int:
    found = list(compared())
    far = {one.name for one in found if one.far is None or one.far > BAR}
    listed = far & set(EXCEPTIONS)
    held = figure(
        "renderings_too_far", len(far - listed), "files", 0, of=len(found),
        listed=len(listed), decoded_by_dcmtk=sum(one.by == "dcmtk" for one in found),
    )  # fmt: skip
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
