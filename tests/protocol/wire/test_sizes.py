"""How large one message may be."""

import pytest

from protocol.errors import Code, WardroundError
from protocol.study.vector_layout import Sections
from protocol.wire.sizes import answer_size, question_size, refuse_too_large
from tests.protocol.study_document import study


def test_a_study_whose_messages_are_too_large_is_refused_by_name() -> None:
    sections = Sections(study(), train=True, evaluate=study().evaluation.takes_place)
    question, answer = question_size(sections), answer_size(sections)
    refuse_too_large(study(), max(question, answer))
    with pytest.raises(WardroundError, match=f"{max(question, answer)} bytes") as caught:
        refuse_too_large(study(), max(question, answer) - 1)
    assert caught.value.code is Code.REFUSED_STUDY
    assert caught.value.remedy
    with pytest.raises(WardroundError, match="model that each site is sent"):
        refuse_too_large(study(), question - 1)
