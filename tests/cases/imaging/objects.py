"""Synthetic radiographs as DICOM objects: a ramp, or a drawn chest with words burned into it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from launch.demo.synthetic_radiographs import draw

Picture = npt.NDArray[np.uint8]


def radiograph(patient: str, uid: str, study: str, values: int) -> Dataset:
    """A ramp of so many `values`, 96 by 80."""
    dataset = Dataset()
    meta = dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, generate_uid()
    dataset.PatientID, dataset.PatientName = patient, "Synthetic^Nobody"
    dataset.AccessionNumber, dataset.Modality, dataset.StudyDate = "CASE", "DX", "20200102"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BurnedInAnnotation = "NO"
    dataset.Rows, dataset.Columns, dataset.PixelRepresentation = 96, 80, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = (np.arange(96 * 80) % values).astype(np.uint16).tobytes()
    return dataset


def chest(seed: int, side: int) -> Picture:
    """A drawn chest, square, no two seeds alike."""
    light = draw(np.random.default_rng(seed), side, ill=False)
    return np.rint(light * 255).astype(np.uint8)


def captioned(picture: Picture, text: str, size: int) -> Picture:
    """White words in the upper left corner, in letters of `size` pixels."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((5, 5), text, fill=255, font_size=size)
    return np.asarray(image)


def showing(picture: Picture) -> Dataset:
    """The same patient's same image, whatever it shows: its UIDs never change."""
    dataset = radiograph("P1", "1.2.3.4.5", "1.2.3.4", 4000)
    dataset.SeriesInstanceUID = "1.2.3.4.1"
    dataset.Rows, dataset.Columns = picture.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = picture.tobytes()
    return dataset
