"""Files are read here as the product reads them: pydicom silent and lenient, for one test only."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from pydicom.config import settings

from client.data.dicom.objects.header import quiet


@pytest.fixture(autouse=True)
def as_the_product_reads() -> Iterator[None]:
    """What `quiet` sets is put back, or it would hold for every test that comes after."""
    mode = settings.reading_validation_mode
    loggers = [logging.getLogger(name) for name in ("pydicom", "pynetdicom", "pylibjpeg", "PIL")]
    before = [(each, each.handlers[:], each.propagate, each.level) for each in loggers]
    quiet()
    yield
    settings.reading_validation_mode = mode
    for each, handlers, propagate, level in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)
