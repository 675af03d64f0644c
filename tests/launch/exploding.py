"""A task whose training leaves the finite numbers at once."""

from torch import Tensor

from tasks.shipped.breast_cancer import BreastCancer


class Exploding(BreastCancer):
    name = "exploding"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return 1e12 * (outputs[:, 0] + 2 - 4 * labels) ** 4
