"""What is seen in a prepared picture lies, in the image it was made of, where it was."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from client.data.dicom.pixels import orientation
from client.data.dicom.pixels.back_projection import back_projected
from client.data.dicom.pixels.preprocessing import aspect, resized


@pytest.mark.parametrize(
    "directions", [None, ["L", "F"], ["R", "F"], ["L", "H"], ["F", "L"], ["H", "R"]]
)
@pytest.mark.parametrize("shape", [(40, 60), (90, 30), (64, 64)])
@pytest.mark.parametrize("spacing", [None, [2.0, 1.0]])
def test_a_picture_goes_back_to_where_it_came_from(
    directions: list[str] | None, shape: tuple[int, int], spacing: list[float] | None
) -> None:
    header = Dataset()
    header.Rows, header.Columns = shape
    if directions:
        header.PatientOrientation = directions
    if spacing:
        header.PixelSpacing = spacing
    down, across = np.mgrid[: shape[0], : shape[1]]
    image = (40 + 100 * down / shape[0] + 80 * across / shape[1]).astype(np.uint8)
    turned, pixel_aspect = orientation.upright(image, aspect(header), header)
    prepared = resized(turned, pixel_aspect, 32, 32)
    back = back_projected(prepared, header)
    assert back.shape == shape
    assert np.abs(back.astype(int) - image).max() <= 16
