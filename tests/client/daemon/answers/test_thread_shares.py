"""Who is alone computes with all threads where no bit depends on their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch

from client.config.policy import Policy
from client.daemon.answers.thread_shares import ThreadShares
from protocol.study.study import Study
from tests.client.daemon.test_two_studies import made
from tests.client.hospital import numbered

POLICY = Policy.model_validate({"threads": 6, "studies_at_once": 3})
PRIVATE, PLAIN = numbered(1), made(1)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def threads(shares: ThreadShares, study: Study) -> int:
    with shares.share(study):
        return torch.get_num_threads()


def test_a_private_study_alone_has_all_threads_and_beside_another_its_part() -> None:
    shares = ThreadShares(POLICY)
    assert threads(shares, PRIVATE) == 6
    with shares.share(PLAIN):
        assert threads(shares, PRIVATE) == 2
    assert threads(shares, PRIVATE) == 6


def test_in_mode_none_the_number_never_depends_on_other_studies() -> None:
    shares = ThreadShares(POLICY)
    alone = threads(shares, PLAIN)
    with shares.share(PRIVATE), shares.share(PRIVATE):
        assert threads(shares, PLAIN) == alone == 2


def test_an_attempt_that_fails_gives_its_threads_back() -> None:
    shares = ThreadShares(POLICY)
    with suppress(KeyError), shares.share(PRIVATE):
        raise KeyError
    assert threads(shares, PRIVATE) == 6
