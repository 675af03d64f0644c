"""Linear systems of integers, solved exactly: the same numbers on every machine.

Gaussian elimination without fractions (Bareiss 1968, Sylvester's identity and multistep
integer-preserving Gaussian elimination): each division leaves no remainder, so nothing is rounded
before the end, and neither the order of additions nor a processor's floats matter.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAST_PIVOT_BITS = 30
"""A pivot is what a column has left once those before are taken out of it; below its diagonal
times 2^-30 the column says what the others say."""


class CollinearError(Exception):
    """`column` is, as far as the sums tell, a combination of those before it."""

    def __init__(self, column: int) -> None:
        super().__init__(column)
        self.column = column


def solve(
    matrix: Sequence[Sequence[int]], right: Sequence[int], fraction_bits: int
) -> tuple[int, ...]:
    """(P, P) positive definite A, (P,) b -> (P,) A^-1 b in units of 2^-fraction_bits, rounded to
    the nearest, halves up. Raises CollinearError."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size, before = len(rows), 1
    for k in range(size):
        pivot = rows[k][k]
        if pivot <= 0 or pivot << LEAST_PIVOT_BITS <= before * matrix[k][k]:
            raise CollinearError(k)
        for i in range(size):
            if i == k:
                continue
            factor, row, top = rows[i][k], rows[i], rows[k]
            # Gauss-Jordan: rows above are cleared too, and stay whole numbers likewise
            rows[i] = [(pivot * a - factor * b) // before for a, b in zip(row, top, strict=True)]
        before = pivot
    return tuple(_rounded(rows[k][size] << fraction_bits, rows[k][k]) for k in range(size))


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
