"""Findings on chest radiographs; pneumonia is the usual one.

One row is one image of one patient. What a site's view must hold to: frontal views only (PA or
AP), the label from a report or a registry, 1 or 0 and NULL where nobody said. Public data:
PneumoniaMNIST (Yang et al. 2023, MedMNIST v2; CC BY 4.0; children's radiographs of Kermany et al.
2018) in its official split, dealt to four sites that differ in how many are ill.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from protocol.errors import Code, WardroundError
from protocol.study.study import Scalar
from tasks.base import Task, Varied
from tasks.models import (
    adapters,
    augmentation,
    backbone,
    centred_linear,
    hog,
    networks,
    per_patient,
    weights_file,
)
from tasks.schema import PATIENT, SPLIT, Image, Schema, Table

RADIOGRAPH = "radiograph"
FINDINGS = (
    "pneumonia",
    "atelectasis",
    "cardiomegaly",
    "consolidation",
    "effusion",
    "nodule",
    "oedema",
    "pneumothorax",
    "tuberculosis",
)
_NETWORKS = ("cnn", "resnet18")
SITES = ("east", "north", "south", "west")
_CONCENTRATION = 0.5
_FILE = "pneumoniamnist/pneumoniamnist.npz"
_COUNTS = {"train": 4708, "val": 524, "test": 624}
_REMEDY = "Put pneumoniamnist.npz (medmnist.com) into the folder pneumoniamnist of WARDROUND_DATA."


class ChestXray(Task):
    """A linear model of fixed features, or a network of pixels, for one finding."""

    name = "chest_xray"
    title = "A finding on a chest radiograph"
    licence = "CC BY 4.0 (PneumoniaMNIST: MedMNIST v2, doi 10.1038/s41597-022-01721-8)"
    parts = (
        hog,
        centred_linear,
        networks,
        per_patient,
        adapters,
        backbone,
        weights_file,
        augmentation,
    )
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "finding": FINDINGS,
        "model": ("hog", "cnn", "resnet18", "backbone"),
        "pixels": (28, 64, 224),
        "positive_weight": (1.0, 0.25, 0.5, 2.0, 4.0, 8.0),
        "augment": (False, True),
    }

    def __init__(self, **options: Scalar) -> None:
        super().__init__(**options)
        if self.options["augment"] and self.options["model"] not in _NETWORKS:
            raise WardroundError(
                Code.CONFIGURATION,
                f"Model {self.options['model']} reads features that are made once.",
                remedy=f"Augment pictures of a network: {', '.join(_NETWORKS)}.",
            )
        side = int(self.options["pixels"])
        finding = str(self.options["finding"])
        self.title = f"{finding.capitalize()} on a chest radiograph"  # type: ignore[misc]  # one class, a title for each finding
        picture = Image(RADIOGRAPH, "frontal chest radiograph", side, side)
        self.schema = Schema((), finding, f"1: {finding}, 0: none", images=(picture,))

    def model(self) -> nn.Module:
        match self.options["model"]:
            case "cnn":
                return networks.small_cnn()
            case "resnet18":
                return networks.resnet18()
            case "backbone":
                return centred_linear.CentredLinear(backbone.WIDTH)
        return centred_linear.CentredLinear(hog.WIDTH)

    def features(self, table: Table) -> npt.NDArray[Any]:
        """Pictures (N, rows, columns) uint8 for a network; else (N, F) float32 rows of norm 1."""
        pictures = table[RADIOGRAPH]
        match self.options["model"]:
            case "hog":
                return hog.hog(pictures)
            case "backbone":
                return hog.unit(backbone.features(pictures))
        return pictures

    @property
    def varied(self) -> Varied | None:
        """Pictures of a network as they might also have been taken, where the study says so."""
        return augmentation.varied if self.options["augment"] else None

    @property
    def keeps_features(self) -> bool:
        return self.options["model"] == "backbone"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """As any task's, times a public weight for label 1; with the loss that moves the middle
        of fixed features (tasks/models/centred_linear.py)."""
        weights = 1 + (float(self.options["positive_weight"]) - 1) * labels
        losses = super().losses(outputs, labels) * weights
        return losses + outputs[:, 1:].sum(dim=1)

    @classmethod
    def public_files(cls) -> tuple[str, ...]:
        """What no download brings."""
        return (_FILE,)

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """`root`/pneumoniamnist/pneumoniamnist.npz: its training images, and its test images in
        the part "evaluation". Its validation images are left out, as are 10 training images that
        equal one of them: they are for choosing hyperparameters. It names no patients, so every
        image counts as one.

        Raises WardroundError: NO_DATA without the file or for another finding, MALFORMED_DATA.
        """
        if self.options["finding"] != "pneumonia":
            raise WardroundError(
                Code.NO_DATA, "Of these findings, only pneumonia has public data here."
            )
        official = pneumonia_mnist(root)
        train, test = official["train"], official["test"]
        images = np.concatenate([train[0], test[0]])
        labels = np.concatenate([train[1], test[1]])
        parts = np.array(["train"] * len(train[0]) + ["evaluation"] * len(test[0]), dtype=object)
        names = np.array([f"pneumoniamnist-{k:04d}" for k in range(len(images))], dtype=object)
        side = self.schema.images[0].rows
        return {
            site: {
                PATIENT: names[rows],
                RADIOGRAPH: enlarged(images[rows], side),
                self.schema.label: labels[rows].astype(np.float64),
                SPLIT: parts[rows],
            }
            for site, rows in dealt(labels, parts == "train").items()
        }


def pneumonia_mnist(root: Path | None) -> dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]]:
    """train, val and test -> ((N, 28, 28) uint8, (N,) labels), without the training images that
    are also validation images. Raises WardroundError: NO_DATA, MALFORMED_DATA."""
    file = root / _FILE if root is not None else Path(_FILE)
    try:
        with np.load(file, allow_pickle=False) as stored:
            parts = {
                part: (np.asarray(stored[f"{part}_images"]), np.asarray(stored[f"{part}_labels"]))
                for part in _COUNTS
            }
    except OSError:
        raise WardroundError(
            Code.NO_DATA, f"{file} is not there or cannot be read.", remedy=_REMEDY
        ) from None
    except (ValueError, KeyError):
        parts = {}
    for part, count in _COUNTS.items():
        images, labels = parts.get(part, (np.empty(0), np.empty(0)))
        if images.shape != (count, 28, 28) or images.dtype != np.uint8 or labels.size != count:
            raise WardroundError(
                Code.MALFORMED_DATA, f"{file} is not PneumoniaMNIST: {part}.", remedy=_REMEDY
            )
    images, labels = parts["train"]
    validation = {image.tobytes() for image in parts["val"][0]}
    new = np.array([image.tobytes() not in validation for image in images])
    parts["train"] = images[new], labels[new]
    return {part: (images, labels.reshape(-1)) for part, (images, labels) in parts.items()}


def dealt(labels: npt.NDArray[Any], train: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[Any]]:
    """Rows of each site: of each label, shares by a Dirichlet distribution of concentration .5
    (Hsu, Qi, Brown 2019), the same in training and evaluation; always the same deal."""
    drawn = np.random.default_rng(2023)
    rows: dict[str, list[npt.NDArray[Any]]] = {site: [] for site in SITES}
    for label in (0, 1):
        edges = np.cumsum(drawn.dirichlet([_CONCENTRATION] * len(SITES)))[:-1]
        for part in (True, False):
            chosen = drawn.permutation(np.flatnonzero((labels == label) & (train == part)))
            cuts = np.rint(edges * len(chosen)).astype(int)
            for site, share in zip(SITES, np.split(chosen, cuts), strict=True):
                rows[site].append(share)
    return {site: np.sort(np.concatenate(shares)) for site, shares in rows.items()}


def enlarged(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """(N, 28, 28) -> (N, side, side), bilinear; the same images for 28."""
    if images.shape[1] == side:
        return images
    from PIL import Image as Pillow

    size, how = (side, side), Pillow.Resampling.BILINEAR
    return np.stack([np.asarray(Pillow.fromarray(image).resize(size, how)) for image in images])
