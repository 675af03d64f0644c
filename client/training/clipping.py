"""Sums of clipped gradients in floating point, and how far rounding errors can move them.

v_i: patient i's gradient, exactly as the float32 terms of that patient define it (`LayerGradient`).
That these, and the norms computed of them, depend on patient i and the model alone is what
per-patient gradients mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.training.layer_gradients import LayerGradient, Present, sum_of_squares
from protocol.secagg.fixed_point import AMPLITUDE_BITS, SITE_TERMS

Sums = Mapping[int, Tensor]
"""By the id of the parameter."""


class CertifiedSum:
    """The sum over patients of v_i, each clipped to C: two neighbouring sums lie within
    C (1 + SITE_SLACK) of one another (`fixed_point`), whatever weights and patients are.

    Products of two float32 numbers are exact in float64, so all errors are those of adding. Let
    M_i >= |v_i| bound the norm of the sum of magnitudes of the terms that v_i is made of
    (`amplitudes`), K = 2^AMPLITUDE_BITS, u = 2^-53 and g(k) = k u / (1 - k u) (Higham 2002, lemma
    3.1 and section 4.2: k terms in any order err by g(k) times the sum of their magnitudes).

    Patients are clipped by N_i = sqrt(n_i^2 + (M_i / K)^2), n_i the computed norm. A squared norm,
    from gradients or from Gram matrices, has fewer than 2^32 terms, of magnitudes that sum up to
    M_i^2 at most: n_i^2 errs by less than g(2^32) M_i^2 < (M_i / K)^2, so N_i >= |v_i|, and a
    patient adds C at most. Also M_i C / N_i <= K C. The sum over m patients of one part, with T
    positions each, therefore errs by at most g(m T + 4) m K C, and n patients in p parts, added up
    in float64, by (m T + p + 8) n K C u, nearly. A part ends where its block does or, where one
    part may have everybody, is added block by block in one chain (m = n), so p is n at most.
    `SITE_TERMS` bounds n (m T + p), a half each (`part_size`; n p <= SITE_PATIENTS^2), and two
    neighbouring sums move apart by C (1 + 2 K SITE_TERMS u), below C (1 + SITE_SLACK).
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], clip_norm: float, patients: int, positions: int
    ) -> None:
        """patients: n, in all. positions: T, the most that share a weight."""
        device = parameters[0].device
        size = sum(p.numel() for p in parameters)
        self.flat = torch.zeros(size, dtype=torch.float64, device=device)
        """(P,) float64, the sum so far, in the order of `parameters`, on their device."""
        self._clip_norm, self._patients = clip_norm, patients
        self._part = part_size(patients, positions)
        parts = self.flat.split([p.numel() for p in parameters])
        self._sums = {id(p): part.view(p.shape) for p, part in zip(parameters, parts, strict=True)}

    def add(self, gradients: Sequence[LayerGradient], patients: int) -> None:
        """The first `patients` rows of a block. A patient whose gradient is not finite counts as
        zero."""
        squares = [layer.square_norms() for layer in gradients]
        terms = [layer.amplitudes() for layer in gradients]
        norms = sum_of_squares(squares)
        amplitudes = norms if all(map(is_, terms, squares)) else sum_of_squares(terms)
        bounds = (norms + amplitudes * 4.0**-AMPLITUDE_BITS).sqrt_()
        factors = self._clip_norm / bounds.clamp(min=self._clip_norm)
        if self._part >= self._patients:
            _add(gradients, factors, bounds, slice(patients), self._sums)
            return
        for start in range(0, patients, self._part):
            rows = slice(start, min(patients, start + self._part))
            part = {key: torch.zeros_like(total) for key, total in self._sums.items()}
            _add(gradients, factors, bounds, rows, part)
            for key, total in part.items():
                self._sums[key].add_(total)


def part_size(patients: int, positions: int) -> int:
    """Patients m of a part, at least one, so that n m T <= SITE_TERMS / 2;
    `fixed_point.SITE_PATIENTS` and `SITE_POSITIONS` say how far that holds."""
    return max(1, SITE_TERMS // 2 // max(1, patients * positions))


def patient_rows(
    gradients: Sequence[LayerGradient], parameters: Sequence[nn.Parameter]
) -> npt.NDArray[np.floating[Any]]:
    """(n, P) every row's gradient, in the order of `parameters`."""
    rows = {
        id(parameter): row.flatten(1)
        for layer in gradients
        for parameter, row in zip(layer.parameters, layer.rows(), strict=True)
    }
    together: npt.NDArray[np.floating[Any]] = (
        torch.cat([rows[id(p)] for p in parameters], dim=1).cpu().numpy()
    )
    return together


def _add(
    gradients: Sequence[LayerGradient], factors: Tensor, norms: Tensor, rows: slice, sums: Sums
) -> None:
    # A sum that is finite says that all its terms are, nearly always.
    present: Present = None if rows == slice(len(norms)) else rows
    if not math.isfinite(float(norms[rows].sum())):
        present = torch.zeros(len(norms), dtype=torch.bool, device=norms.device)
        present[rows] = norms[rows].isfinite()
    if present is not None:
        factors = factors[present]
    for layer in gradients:
        layer.add_to([sums[id(parameter)] for parameter in layer.parameters], factors, present)
