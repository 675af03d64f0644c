"""FedBN (Li et al. 2021, Algorithm 1): normalisation layers are each site's own.

Their coordinates add a public zero to the sum, so that the released model keeps its initial values
there; the site trains and scores with its own. BatchNorm itself is refused (`tasks.flat_model`), so
here it is about the scales and shifts of GroupNorm, LayerNorm and InstanceNorm. In mode local they
come out of the same noised steps as everything else, and what they do to later releases is
post-processing. In mode distributed they would be trained without enough noise, and shape the next
rounds' gradients: the study refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.training.algorithms.fedavg import FedAvg, Steps, Trained
from protocol.errors import Code, WardroundError
from protocol.vectors import Vector
from tasks.flat_model import FlatModel
from tasks.models.normalisation import normalisation


@dataclass(frozen=True, eq=False)
class FedBN(FedAvg):
    """local: (P,) bool, the coordinates that stay at the site."""

    local: npt.NDArray[np.bool_]

    @staticmethod
    def over(model: FlatModel) -> FedBN:
        """Raises WardroundError(REFUSED_STUDY) for a model without normalisation layers."""
        local = normalisation(model)
        if not local.any():
            raise WardroundError(
                Code.REFUSED_STUDY,
                "The task's model has no normalisation layers for fedbn to keep at a site.",
                remedy="Take algorithm=fedavg, or a task whose model has GroupNorm or LayerNorm.",
            )
        return FedBN(local)

    def train(self, body: Vector, own: Vector | None, steps: Steps) -> Trained:
        start = self.scored(body, own)
        difference = steps(start)
        trained = start + difference
        return Trained(np.where(self.local, np.float32(0), difference), own=trained)

    def scored(self, weights: Vector, own: Vector | None) -> Vector:
        return weights if own is None else np.where(self.local, own, weights)

    def personal(self, weights: Vector, own: Vector | None) -> Vector | None:
        return self.scored(weights, own)
