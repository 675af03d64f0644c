"""The released model from which a study's training starts, and what its own training cost.

A model of a noised study is no more than what was computed from its releases: to go on from it
tells nothing more of those patients (post-processing; Dwork and Roth 2014, Proposition 2.1). What
was told of them stays told. Whoever is a patient of both studies has lost at most the sum of both
epsilons at the sum of both deltas (sequential composition, ibid., Theorem 3.16), and a study is
never described without the epsilon that it carries along.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints
from pydantic import model_validator as validator

from protocol.document import Document

_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MOST_STUDIES = 1000
"""That a model may come from, one after the other."""


class Start(Document):
    """`model`: the registered model and its version, NAME/VERSION; `record`: SHA-256 of the record
    that names this version, as a bundle's digest; `study`: that made it; `weights`: SHA-256 of (P,)
    float32 little-endian (`protocol.vectors.weights_digest`).

    `epsilon` at `delta` bounds what one patient of all the `studies` it comes from (its own, the
    one that that started from, and so on) has lost in them; both None where one of them trained or
    evaluated without noise, so that no epsilon covers its patients."""

    model: Annotated[
        str, StringConstraints(pattern=r"^[^\x00-\x1f]{1,256}/[0-9]{1,9}$", max_length=266)
    ]
    record: _Digest
    study: _Digest
    weights: _Digest
    epsilon: Annotated[float, Field(gt=0, le=1e7)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    studies: Annotated[int, Field(ge=1, le=MOST_STUDIES)] = 1

    @validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.epsilon is None) != (self.delta is None):
            raise ValueError("epsilon and delta are both stated, or neither")
        return self
