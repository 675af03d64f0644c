"""Every case here computes in one thread."""

from collections.abc import Iterator

import pytest

from tests.cases.privacy.neighbours import one_thread


@pytest.fixture(scope="module", autouse=True)
def in_one_thread() -> Iterator[None]:
    with one_thread():
        yield
