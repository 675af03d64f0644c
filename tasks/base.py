"""The base of a task: what a newcomer fills in to federate something new."""

from __future__ import annotations

import inspect
import linecache
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from protocol.document import digest_of_all
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.outcomes.kinds import OutcomeKind
from protocol.study.study import Scalar
from tasks.encoders import Hinge
from tasks.losses.usual import usual_loss
from tasks.schema import Schema, Table

Varied = Callable[[Tensor, np.random.Generator], Tensor]
"""One record's (...) float32 features -> the same as they might also have been, by draws from the
generator and from nothing else: under privacy it is that patient's own."""


@dataclass(frozen=True)
class Download:
    """A public file that `wardround data fetch` may bring to a user's machine.

    `sha256` is that of the file itself; where the address is a zip archive, `member` is what the
    file is called inside. `folder`: where it lies under the data root, the task's name if empty.
    """

    url: str
    sha256: str
    file: str
    member: str = ""
    folder: str = ""


class Task(ABC):
    """A task: schema, model, loss and scores. Stateless; its source is hashed into every study.

    A model must treat samples independently (no BatchNorm), since the unit of privacy is a
    patient and clipping happens per sample.

    `choices`: what a study may choose about the task, as option -> allowed values, the usual one
    first. The set is closed, so that an option can never carry more than a choice between things
    that are installed at every site.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str]
    schema: Schema
    outcome: ClassVar[OutcomeKind] = Binary()
    """What is predicted of a patient. It decides the labels, the usual loss and scores, what a
    study releases when it evaluates, and its metrics."""
    class_weights: ClassVar[tuple[float, ...]] = ()
    """A public weight for the usual loss of each class or level, the first class first; empty: all
    alike. A patient's gradient is weighted before it is clipped, so that no weight changes what one
    patient may add. Scores are then probabilities of a weighted cohort."""
    class_rates: ClassVar[tuple[float, ...]] = ()
    """Which share of the drawn patients of each class or level trains, the first class first, the
    largest 1; empty: all. Public constants by which a class that is common is thinned out. Privacy
    is accounted at the study's sampling rate, which is the most that any patient has."""
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    purpose: ClassVar[str] = "research"
    licence: ClassVar[str] = ""
    downloads: ClassVar[tuple[Download, ...]] = ()
    parts: ClassVar[tuple[ModuleType, ...]] = ()
    """Further modules whose code is part of the task: they enter `source_digest`."""

    def __init__(self, **options: Scalar) -> None:
        """The task with these options. Raises WardroundError(CONFIGURATION) naming the choices."""
        for option, value in options.items():
            if option not in self.choices:
                known = ", ".join(self.choices) or "none"
                raise WardroundError(
                    Code.CONFIGURATION,
                    f"Task {self.name} has no option {option!r}.",
                    remedy=f"Its options: {known}.",
                )
            if value not in self.choices[option]:
                allowed = ", ".join(map(str, self.choices[option]))
                raise WardroundError(
                    Code.CONFIGURATION,
                    f"Option {option} of task {self.name} cannot be {value!r}.",
                    remedy=f"Choose one of: {allowed}.",
                )
        self.options = {option: values[0] for option, values in self.choices.items()} | options

    @abstractmethod
    def model(self) -> nn.Module:
        """A fresh model; its random initialisation follows torch's seed, set by the caller."""

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        """Rows of a cohort -> model input, (N, ...) float32, or uint8 where it is pictures; a
        batch reaches the model as float32."""
        return self.schema.features(table)

    @property
    def keeps_features(self) -> bool:
        """Whether features follow from a table's pictures alone and take so long that a site
        should keep them from study to study."""
        return False

    @property
    def varied(self) -> Varied | None:
        """How a record that trains is changed at random; None where it is taken as it is. A mask
        stays as it is, so a picture that has one may change in brightness alone."""
        return None

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(B, K) outputs, (B,) labels of the kind of outcome -> (B,) losses, never reduced: privacy
        clips each patient's gradient, so a mean or a weighted mean here would break sensitivity.
        Of masks: (B, K, rows, columns) outputs and (B, rows, columns) labels.

        As usual for the kind of outcome (`tasks.losses`), whose `labels_of` says what a label made
        of several columns is."""
        return self._weighted(usual_loss(self.outcome).losses(outputs, labels), labels)

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(B, ...) what each output does to the sum of losses: by autograd, but for the losses
        above, whose slope is known."""
        usual = usual_loss(self.outcome)
        if type(self).losses is Task.losses and outputs.shape[1:] == (usual.width,):
            return self._weighted(usual.slopes(outputs, labels), labels)
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self.losses(outputs, labels).sum(), outputs)
        return slopes

    def _weighted(self, values: Tensor, labels: Tensor) -> Tensor:
        """(B, ...) times the weight of each patient's class."""
        if not self.class_weights:
            return values
        weights = torch.tensor(self.class_weights, dtype=values.dtype, device=values.device)
        return values * weights[labels.long()].view(-1, *(1,) * (values.dim() - 1))

    def scores(self, outputs: Tensor) -> Tensor:
        """(B, K) outputs -> what is said of each patient: (B,) probabilities of label 1 or, of a
        number, predictions in its own unit; (B, ...) probabilities of each class or label, or of
        having survived each interval; (B, rows, columns) the class of each pixel."""
        return usual_loss(self.outcome).scores(outputs)

    def public_score(self, table: Table) -> npt.NDArray[np.float64] | None:
        """A score made of public knowledge alone, without any training: for the rows of a cohort
        what `scores` would give, or None where the task knows none. A study's gain is over this."""
        return None

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Public data by site, for demos, tests and benchmarks; `root` holds downloaded files.

        Raises WardroundError(NO_DATA) where the files are not there, naming the remedy.
        """
        raise NotImplementedError(f"task {self.name} ships no public data")

    @classmethod
    def public_files(cls) -> tuple[str, ...] | None:
        """The files that `public_sites` reads, below the data root; None where it is not there."""
        if cls.public_sites is Task.public_sites:
            return None
        return tuple(f"{file.folder or cls.name}/{file.file}" for file in cls.downloads)

    @classmethod
    def sources(cls) -> dict[str, bytes]:
        """Name -> text of the source files of the task's class, its bases (torch's excluded), its
        `parts` and the usual loss of its outcome. Raises WardroundError(CONFIGURATION) where there
        is none to be read."""
        written: list[type | ModuleType] = [
            base
            for base in cls.__mro__
            if base not in (object, ABC, Task) and not base.__module__.startswith("torch")
        ]
        loss = type(usual_loss(cls.outcome)).__mro__[:-1]
        return dict(_source(part) for part in (*written, *cls.parts, Task, Schema, Hinge, *loss))

    @classmethod
    def source_digest(cls) -> str:
        """SHA-256 over the `sources`, so that every hospital of a study runs the same code."""
        return digest_of_all(cls.sources().values())


def _source(written: type | ModuleType) -> tuple[str, bytes]:
    """(name, text) of the file, or of the notebook's cell, in which something is written."""
    try:
        file = Path(inspect.getfile(written))
        return str(file), file.read_bytes()
    except (OSError, TypeError):  # a notebook's main module has no file
        code = [one.__code__ for one in vars(written).values() if inspect.isfunction(one)]
        cells = sorted({one.co_filename for one in code})
        text = "".join(line for cell in cells for line in linecache.getlines(cell))
    if not text:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The source of {written.__name__} is nowhere to be read, and a study names it.",
            remedy="Write it into a file, and import it from there.",
        )
    return " ".join(cells), text.encode()
