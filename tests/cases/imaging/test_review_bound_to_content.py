"""A person releases an image that shows text: a position marker. The file is then replaced by
another with the same UIDs, with a name burned into it. The release was for the first picture only.

Stands for a person's decision that holds for a UID, not for what that person saw.
"""

from __future__ import annotations

import pytest

from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from tests.cases.imaging.objects import captioned, chest, showing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """Images ready after the release, and after the content has changed."""
    folder = tmp_path_factory.mktemp("review")
    state, files = folder / "state", folder / "files"
    state.mkdir(mode=0o700)
    files.mkdir()

    def write(text: str, seed: int) -> None:
        dataset = showing(captioned(chest(seed, 256), text, 16))
        dataset.save_as(files / "x.dcm", enforce_file_format=True)

    write("LEFT SUPINE 12345", 1)
    with ImageIndex.open(state) as index:
        bring_up_to_date(index, [files], workers=1)
        aside = [each.image for each in index.kept_out() if each.releasable and each.image]
        if not aside:
            raise RuntimeError("the text of the first picture was not seen")
        index.review(aside, "release")
        released = len(index.ready())
        write("JANE EXAMPLE 22.07.1933 MRN 88801", 3)
        bring_up_to_date(index, [files], workers=1)
        return released, len(index.ready())


def test_a_release_lets_through_the_picture_that_was_looked_at(ready: tuple[int, int]) -> None:
    assert ready[0] == 1


def test_a_release_does_not_hold_for_another_content(ready: tuple[int, int]) -> None:
    assert ready[1] == 0
