"""Randomness: uniform bits that nobody could know, and Poisson samples drawn with them."""

import os

import numpy as np
import pytest
from scipy import stats

from protocol.errors import Code, WardroundError
from protocol.privacy.randomness import PatientDraws, Stream, poisson_sample

CHANCE = 1e-6


def test_a_stream_gives_each_word_once_and_depends_on_its_key() -> None:
    one, same, other = Stream(b"a" * 32), Stream(b"a" * 32), Stream(b"b" * 32)
    first, second = one.words(1000), one.words(1000)
    assert (np.concatenate([first, second]) == same.words(2000)).all()
    assert len(Stream().words(0)) == 0
    assert len({*first.tolist(), *second.tolist(), *other.words(1000).tolist()}) == 3000


def forked(stream: Stream) -> tuple[bytes, bytes]:
    """What this process and one forked from it draw next."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, stream.words(100).tobytes())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        theirs = file.read()
    os.waitpid(child, 0)
    return stream.words(100).tobytes(), theirs


@pytest.mark.parametrize("key", [None, b"a" * 32])
def test_a_forked_process_draws_other_bits(key: bytes | None) -> None:
    stream = Stream(key)
    stream.words(10)
    ours, theirs = forked(stream)
    assert len(theirs) == len(ours) == 800
    assert not np.isin(np.frombuffer(theirs, np.uint64), np.frombuffer(ours, np.uint64)).any()
    assert forked(stream)[1] != theirs
    if key is not None:  # the parent's stream is what it was
        assert ours == Stream(key).words(110)[10:].tobytes()


def test_uniform_values_reach_below_two_to_the_minus_53() -> None:
    """Where a 53-bit uniform stops; tails of the noise beyond 8.6 deviations come from there."""

    class Low(Stream):
        def words(self, count: int) -> np.ndarray:
            return np.arange(count, dtype=np.uint64)

    assert Low().uniform(3).tolist() == [0.5 * 2.0**-64, 1.5 * 2.0**-64, 2.5 * 2.0**-64]


@pytest.mark.parametrize("rate", [0.001, 0.2, 0.999])
def test_each_patient_is_drawn_by_itself_with_the_public_rate(rate: float) -> None:
    drawn = poisson_sample(Stream().words(200_000), rate)
    assert stats.binomtest(int(drawn.sum()), 200_000, rate).pvalue > CHANCE
    table = stats.contingency.crosstab(drawn[:-1], drawn[1:]).count
    assert stats.chi2_contingency(table).pvalue > CHANCE


def test_rates_at_the_edges() -> None:
    words = Stream().words(1000)
    assert poisson_sample(words, 1.0).all()
    assert not poisson_sample(words, 1e-18).any()
    assert poisson_sample(words[:0], 0.5).shape == (0,)
    for rate in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(WardroundError) as refusal:
            poisson_sample(words, rate)
        assert refusal.value.code is Code.CONFIGURATION


def test_a_patient_has_draws_of_his_own() -> None:
    """NIST FIPS 197, appendix C.3: AES-256 of one block; and no block is another's affair."""
    identity = np.frombuffer(bytes(range(16)) + bytes.fromhex("00112233445566778899aabbccddeeff"))
    identities = identity.view(np.uint64).reshape(-1, 2)
    draws = PatientDraws(bytes(range(32)))
    words = draws.words(identities)
    assert words[1].tobytes().hex() == "8ea2b7ca516745bfeafc49904b496089"
    assert (draws.words(identities[::-1]) == words[::-1]).all()
    assert (draws.words(identities[1:]) == words[1:]).all()
    assert draws.words(identities[:0]).shape == (0, 2)
    assert (PatientDraws().words(identities) != words).all()
    assert draws.uniform(identities).tolist() == [(int(w) + 0.5) * 2.0**-64 for w in words[:, 0]]
