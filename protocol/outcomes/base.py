"""What every kind of outcome owns, but for its loss, which is the task's (`tasks.losses`)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.document import Document
from protocol.outcomes.estimates import Counts, Estimate, Metric

Labels = npt.NDArray[Any]
"""(N,): one number a patient, whatever it was made of; (N, ...) where a label has a shape."""
Columns = npt.NDArray[Any]
"""(N,) the label's column as a site's view has it, or (N, columns) where there are several; NaN
where missing. (N, rows, columns) uint8 of masks."""
Scores = npt.NDArray[np.floating]
"""(N,), (N, classes) or (N, rows, columns): what the released model says of each patient."""

MAX_BINS = 512


class BaseKind(Document):
    """One kind of outcome: public facts alone, so that all of it stands in the study.

    The released evaluation is a vector of counts whose length follows from the study. What one
    patient changes in it is stated in `squared_sensitivity`, `largest` and `added`: noise,
    epsilon and the checks of an opened sum rest on these, and `counts` keeps them.
    """

    # --- labels ---
    @property
    def label_columns(self) -> int:
        """From how many columns of the view a label is made."""
        return 1

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one patient's label: a number, or a mask's rows and columns."""
        return ()

    @abstractmethod
    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        """The label's columns -> (N,) which rows are none of this kind, and what is wrong with
        them, in words that quote nothing. A missing value is not bad."""

    def labels_of(self, columns: Columns) -> Labels:
        """The same, none bad -> (N,) labels that the model learns from, within public limits; NaN
        where a row has none. Each is a whole number below 2^24 or any float: float32 keeps it."""
        return columns

    def missing(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Labels -> (N,) which rows have none."""
        return np.isnan(labels)

    @abstractmethod
    def doubts(self, columns: Columns) -> list[str]:
        """The same, of rows that have a label -> what the site's own log should say of them. What
        is said of every part of the rows is said of all."""

    @property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest label."""
        return 0.0, 1.0

    @property
    def whole(self) -> bool:
        """Whether every label is a whole number."""
        return True

    # --- scores ---
    @property
    def scores_of_one(self) -> tuple[int, ...]:
        """The shape of one patient's score."""
        return ()

    @property
    def score_range(self) -> tuple[float, float]:
        """Every score lies in it; one that is no number counts as its middle."""
        return 0.0, 1.0

    @property
    def adds_up(self) -> bool:
        """Whether the numbers of one score are parts of 1."""
        return False

    @property
    @abstractmethod
    def score_columns(self) -> tuple[str, ...]:
        """The columns of what a released model predicts, as many as one score has numbers."""

    @property
    @abstractmethod
    def score_meaning(self) -> str:
        """What these columns are, in words; {label} stands for the name of the label's column."""

    def in_columns(self, scores: Scores) -> npt.NDArray[np.float64]:
        """Scores -> (N, score_columns)."""
        return np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)

    # --- the released evaluation ---
    @abstractmethod
    def cells(self, bins: int) -> int:
        """Length of the released vector."""

    @property
    @abstractmethod
    def squared_sensitivity(self) -> int:
        """The squared L2 norm of what one patient adds to the released vector, at most."""

    @property
    def sensitivity(self) -> float:
        """L2: what one patient can change in the released vector, by being in it or not."""
        return math.sqrt(self.squared_sensitivity)

    @property
    def largest(self) -> int:
        """What one patient adds to one cell, at most."""
        return 1

    @property
    def added(self) -> int:
        """What one patient adds to all cells together, at most."""
        return 1

    def counted(self, bins: int) -> tuple[int, int]:
        """How many of the first cells tell the number of patients, and what each patient adds to
        these together."""
        return self.cells(bins), self.added

    @abstractmethod
    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        """Scores and labels, one each a patient -> (cells,) integers."""

    @abstractmethod
    def bins_for(self, patients: int, noise: float) -> int:
        """A good number of bins for about `patients` scored patients under noise of this deviation
        on each cell of the opened sum."""

    # --- figures ---
    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """Every figure that may come of the released vector, by name, in the order of tables."""

    @property
    @abstractmethod
    def compared(self) -> tuple[str, str]:
        """The two figures by which models are compared, the more important first."""

    @property
    def chance(self) -> float:
        """The first of them where all patients are scored alike: half of an area; what nothing
        explains is 0, which kinds say whose first figure is none."""
        return 0.5

    @abstractmethod
    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        """(cells,) opened counts, the variance of each one's noise -> metrics with 95% intervals;
        one that the counts leave undefined is left out."""

    @abstractmethod
    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        """Scores and labels that are all here -> the `compared` figures, without any noise."""

    @abstractmethod
    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        """(cells,) opened counts -> (mean score, mean of what was observed) of groups of patients
        of similar score."""

    def confusion(self, opened: Counts, bins: int) -> list[list[float]]:
        """(cells,) opened counts -> patients by their class (row) and by the class that the model
        finds likeliest (column); empty for a kind without classes."""
        return []
