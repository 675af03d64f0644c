"""A rule of texts is for what is proposed from now on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import Code
from protocol.study.study import Study
from tests.client.daemon.test_self_check import Ward, plugged, study

__all__ = ["plugged"]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path / "alpha")
    yield ward
    ward.governance.close_state()


def titled(title: str) -> Study:
    plain = study("plain").model_dump()
    return Study.model_validate(plain | {"title": title})


def test_a_study_that_an_earlier_release_accepted_goes_on_under_its_title(ward: Ward) -> None:
    """And another with such a title is refused."""
    accepted = titled("[bold]from 0.1.0")
    ward.governance.propose(accepted)
    answer = ward.propose(accepted)
    assert (answer.state, answer.code) == ("accepted", None)
    for dry in (True, False):
        answer = ward.propose(titled("[bold]from now"), dry=dry)
        assert (answer.state, answer.code) == ("refused", Code.REFUSED_STUDY)
    assert len(ward.governance.approvals.studies()) == 1
