"""A study is carried through though the answers of one hospital get lost now and then.

In ten rounds the sums of one hospital out of four get lost on the way four times, in different
rounds: a common evening on a rural line. Three hospitals answered each time, and three are enough.
The kind of fault: one late site costs all sites their attempt, which is charged; spare attempts do
not follow the losses that are to be expected; what was learned until then is lost with the study.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.real_federation import WORDS, Federation, Hospital

ROUNDS = 10


@pytest.mark.slow
def test_four_lost_sums_of_one_hospital_do_not_end_a_study(tmp_path: Path) -> None:
    with Federation(tmp_path / "federation", waiting={"answer": 8}).start() as federation:
        study, configuration = federation.study(
            federation.patients(), *WORDS, f"rounds={ROUNDS}", f"evaluation.every={ROUNDS}"
        )
        hospitals = {name: Hospital(federation, name) for name in federation.names}
        hospitals["west"].lost_sums = {2, 4, 6, 8}
        federation.online(4)
        digest = federation.submit(study, configuration)
        end = federation.wait_end(digest)
        done = federation.rounds(digest)
    assert (end["type"], done) == ("finished", ROUNDS), end.get("message")
