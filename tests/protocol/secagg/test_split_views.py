"""The claim of `protocol.secagg.party`, checked on the masks that this code really adds.

An active coordinator shows every honest site a view of its own choice: any U with |U| >= m, and any
of the one-time keys that a colluding site may have signed. For every assignment of views (or of
silence) to the honest sites, the combinations of their answers that are free of masks must be
spanned by full sums over the honest members of one view, all of whom answered it.

Masks known to the adversary (those of a pair with a colluder) are dropped. For the rest, a mask is
one unknown, a row of signs says who adds and who subtracts it, and what opens is the null space.
Its Gram matrix has one row a site, so that all assignments are tried at once.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import WardroundError
from protocol.secagg import party as secagg
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.context import SignedKey
from protocol.secagg.masks import add_masks
from protocol.secagg.party import Party
from tests.protocol.federation import context, identity, names

Signs = dict[bytes, int]
LENGTH = 3


@dataclass(frozen=True)
class Answer:
    """What one honest site says to one view: its share of zeros, and the masks in it."""

    view: frozenset[SignedKey]
    honest: tuple[int, ...]
    masks: Signs
    share: np.ndarray


def answers(
    monkeypatch: pytest.MonkeyPatch, count: int, colluders: int, least: int
) -> list[list[Answer]]:
    """For every honest site, its answers to all views, by `Party.share` itself."""
    sites = names(count)
    agreed = context(sites)
    honest = sites[: count - colluders]
    secrets = {site: X25519PrivateKey.generate() for site in honest}

    def announce(site: str) -> SignedKey:
        key = secrets.get(site) or X25519PrivateKey.generate()
        public_key = key.public_key().public_bytes_raw()
        return SignedKey.signed(site, agreed.digest, public_key, identity(site))

    # A colluder signs two keys, to show different ones to different sites.
    options = {site: [announce(site) for _ in range(1 if site in honest else 2)] for site in sites}
    taken: list[tuple[bytes, bool]] = []

    def record(words: np.ndarray, keys: Sequence[tuple[bytearray, bool]]) -> None:
        taken[:] = [(bytes(key), positive) for key, positive in keys]
        add_masks(words, keys)

    monkeypatch.setattr(secagg, "add_masks", record)
    found: list[list[Answer]] = []
    for site in honest:
        own = []
        for size in range(least, count + 1):
            for members in itertools.combinations(sites, size):
                if site not in members:
                    continue
                for view in itertools.product(*(options[member] for member in members)):
                    party = Party(agreed, options[site][0], secrets[site])
                    share = party.share(np.zeros(LENGTH, dtype=np.uint32), view, least)
                    peers = [member for member in members if member != site]
                    masks = {
                        key: 1 if positive else -1
                        for peer, (key, positive) in zip(peers, taken, strict=True)
                        if peer in honest
                    }
                    inside = tuple(sites.index(m) for m in members if m in honest)
                    own.append(Answer(frozenset(view), inside, masks, share))
        found.append(own)
    return found


CASES = [
    (4, 0, 3),
    (4, 1, 3),
    (4, 2, 3),
    (5, 0, 3),
    (5, 0, 4),
    (5, 1, 3),
    (5, 1, 4),
    (5, 2, 3),
    (5, 2, 4),
]


@pytest.mark.parametrize(("count", "colluders", "least"), CASES)
def test_nothing_opens_but_full_sums_of_unanimous_views(
    monkeypatch: pytest.MonkeyPatch, count: int, colluders: int, least: int
) -> None:
    found = answers(monkeypatch, count, colluders, least)
    flat = [answer for own in found for answer in own]
    bounds = np.cumsum([0, *(len(own) for own in found)])
    # Inner products of the rows of signs; a last, zero row and column for a site that is silent.
    gram = np.zeros((len(flat) + 1, len(flat) + 1))
    for a, b in itertools.product(range(len(flat)), repeat=2):
        one, two = flat[a].masks, flat[b].masks
        gram[a, b] = sum(one[key] * two[key] for key in one.keys() & two.keys())
    choices = [[*range(bounds[i], bounds[i + 1]), len(flat)] for i in range(len(found))]
    assignments = np.array(list(itertools.product(*choices)))
    silent = assignments == len(flat)
    chosen = gram[assignments[:, :, None], assignments[:, None, :]]
    # A silent site is no unknown of the null space: give it a 1 on the diagonal.
    chosen += silent[:, :, None] * np.eye(len(found))
    free = (np.linalg.eigvalsh(chosen) < 1e-6).sum(axis=1)

    unanimous = np.zeros(len(assignments), dtype=int)
    for view in {answer.view for answer in flat}:
        honest = next(answer.honest for answer in flat if answer.view == view)
        assert len(honest) >= least - colluders
        place = {i: next(p for p in choices[i][:-1] if flat[p].view == view) for i in honest}
        all_of_them = np.all([assignments[:, i] == place[i] for i in honest], axis=0)
        unanimous += all_of_them
        indicator = np.array([1.0 if i in honest else 0.0 for i in range(len(found))])
        assert not np.any(chosen[all_of_them] @ indicator)
    # Each full sum lies in the null space; as many as its dimension, with disjoint sites, span it.
    assert (free == unanimous).all()


def test_the_words_on_the_wire_agree_with_the_linear_algebra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For n = 4, m = 3, all assignments: a group's shares open if and only if it is a full U."""
    found = answers(monkeypatch, 4, 0, 3)
    opened = 0
    for assignment in itertools.product(*([*own, None] for own in found)):
        for size in range(1, 5):
            for group in itertools.combinations(range(4), size):
                sent = [answer for i in group if (answer := assignment[i]) is not None]
                if len(sent) < size:
                    continue
                views = {answer.view for answer in sent}
                full = len(views) == 1 and sent[0].honest == group
                total = np.sum([answer.share.astype(np.uint64) for answer in sent], axis=0) % 2**32
                assert (not np.any(total[:LENGTH])) == full
                opened += full
    assert opened > 0


def test_a_late_answer_to_a_lost_attempt_opens_only_that_attempt() -> None:
    """The fourth share of attempt 1 comes in during attempt 2: it fits nowhere else."""
    sites = names(4)
    zeros = np.zeros(LENGTH, dtype=np.uint32)
    sent = []
    for attempt in (1, 2):
        agreed = context(sites, attempt=attempt)
        parties = {site: Party.begin(agreed, site, identity(site)) for site in sites}
        everyone = [party.ready for party in parties.values()]
        sent.append({site: party.share(zeros, everyone, 3) for site, party in parties.items()})
    first, second = sent
    mixed = ShareSum(sites, LENGTH, 32)
    for site in sites:
        mixed.fold(site, [(first if site == sites[3] else second)[site]])
    with pytest.raises(WardroundError, match="guards"):
        mixed.open()
    own = ShareSum(sites, LENGTH, 32)
    for site in sites:
        own.fold(site, [first[site]])
    assert own.open().tolist() == [0] * LENGTH
