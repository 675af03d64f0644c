"""How large the bodies of a study's messages are, and how large one may be."""

from __future__ import annotations

from protocol.errors import Code, WardroundError
from protocol.secagg.aggregate import GUARDS
from protocol.secagg.packing import packing_of, share_size
from protocol.study.study import Study
from protocol.study.vector_layout import Sections

BODY_LIMIT = 1 << 30
"""Bytes of one message's body."""


def question_size(sections: Sections) -> int:
    """Bytes of body that ask for an attempt: the model, and the server's control variate."""
    return 4 * sections.body


def answer_size(sections: Sections) -> int:
    """Bytes of body of one site's masked vector."""
    bits = sections.study.aggregation.word_bits
    return share_size(sections.length + GUARDS, bits, packing_of(sections))


def refuse_too_large(study: Study, limit: int = BODY_LIMIT) -> None:
    """Raises WardroundError(REFUSED_STUDY) for a study whose messages no line would take in:
    before anything is spent, and not when they come."""
    sections = Sections(study, train=True, evaluate=study.evaluation.takes_place)
    for what, size in (
        ("model that each site is sent", question_size(sections)),
        ("answer of each site", answer_size(sections)),
    ):
        if size > limit:
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"The {what} would have {size} bytes, and {limit} are the most.",
                remedy="Use a smaller model, or train fewer of its parameters.",
            )
