"""Secure aggregation in two exchanges: Ready, then Sum. No set-up, no secret sharing.

*Words.* Roster: the n sites of a study. U: the participants of one attempt, |U| >= m. x: how many
sites are assumed to collude with the coordinator at most; c <= x: how many do. k: bits of a word.

*1 Ready.* Site i makes a one-time X25519 key and signs (i, ctx0, pk_i) with its identity key.
*2 Sum.* From the Readys of U, all for its own ctx0, it forms ctx and for each other j in U the
key k_ij (`masks.pair_key`), wipes sk_i, and answers once
    y_i = (x_i + e_i, 1, 1) + sum_{j > i} PRG(k_ij) - sum_{j < i} PRG(k_ij)   mod 2^k.
*Open.* sum over U of y_i = sum of x_i + e_i, with |U| in the two guard coordinates.

*Adversary.* The coordinator, active: it sends any site anything in any order, and c <= x sites
with all their keys. It cannot forge an honest site's signature.

*Claim.* Of the honest sites' vectors, it learns in one attempt nothing but sums over sets
S = U \\ colluders, one for each ctx that every honest site of U(ctx) has answered. Such sets are
disjoint, have at least m - c members, and when each e_i ~ Skellam(mu / (|U| - x)), each sum holds
noise of variance mu (|U| - c) / (|U| - x) >= mu.

*Proof sketch.* (a) SHA-256 is collision resistant and `encode` injective: equal ctx means equal
study, kind, round, attempt, model, roster and the same Readys, hence the same U and keys. (b) An
honest i takes part in ctx only when its own Ready is in it byte for byte, and takes the key of an
honest j only under j's signature over ctx0; j makes one key per attempt. So between honest sites
every pk is authentic, and by gap-DH with HKDF as a random oracle, the k_ij of distinct (ctx, pair)
look independent and uniform; those of pairs with a colluder are known to the adversary and drop
out. (c) ChaCha20 being a PRG, replace the masks by uniform vectors. An honest site answers one ctx
(`Party.share`). If in ctx some honest j in U has not answered, each honest answer in ctx carries a
mask, that of its pair with j, which occurs nowhere else: it is uniform and independent of all
else. If all have, the graph of their pairs is complete, hence connected, and the answers are
uniform but for their sum. Answers under different ctx share no mask. So any combination that is
not a combination of full sums is uniform. tests/protocol/secagg/test_split_views.py checks this
linear algebra against the masks of this code, for every assignment of views at n = 4 and n = 5.

*What is not claimed.* A lying site may put any vector into x_i (what honest sites can add up to is
`protocol.privacy.possible_sums`), may spoil the attempt, and nothing here says who it was:
signatures and lengths name a site, guards do not (see `aggregate`). The coordinator may drop whom
it likes before Ready, may lose every attempt, and sees who takes part and when. That an attempt
number is used once over restarts is for the site's durable counter. Secrets are dropped after use
and buffers that Python lets us reach are overwritten; a memory dump taken during `share` sees them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS
from protocol.secagg.context import Context, SignedKey, check_readys, place_in
from protocol.secagg.masks import add_masks, pair_key

W = TypeVar("W", np.uint32, np.uint64)
NoiseShare = Callable[[int], npt.NDArray[np.int64]]
"""|U| -> this site's noise e_i: (n,) int64, drawn afresh at each call."""


class Party:
    """One site in one attempt. `ready` is its first message; `share` makes its second, once.

    Kept in memory only: a site that restarts can answer no more than what it answered before
    (`client.daemon.answers.stored_answers`).
    """

    masked = True

    def __init__(self, context: Context, ready: SignedKey, secret: X25519PrivateKey | None) -> None:
        self.context = context
        self.ready = ready
        self._secret = secret
        self._answered: tuple[bytes, npt.NDArray[np.unsignedinteger]] | None = None
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, context: Context, site: str, identity: Identity) -> Self:
        """Makes the one-time key. The caller has debited its ledger and counter durably before.

        Raises WardroundError(IDENTITY) where the roster has no such site or another key for it.
        """
        if context.identities.get(site) != identity.public_key.hex():
            raise WardroundError(
                Code.IDENTITY,
                f"The roster has no site {site} with this identity key.",
                remedy="Compare this site's name and fingerprint with the roster's.",
            )
        secret = X25519PrivateKey.generate()
        public_key = secret.public_key().public_bytes_raw()
        return cls(context, SignedKey.signed(site, context.digest, public_key, identity), secret)

    def share(
        self,
        contribution: npt.NDArray[W],
        readys: Sequence[SignedKey],
        least_sites: int,
        noise: NoiseShare | None = None,
    ) -> npt.NDArray[W]:
        """y_i for the participants `readys`: (n + 2,) words, read-only, of contribution's type.

        contribution: (n,) uint32 or uint64, integers mod 2^k; left as it is. noise: this site's
        share, asked for |U| sites and added here, so that the same Readys get the same bytes.

        Raises WardroundError: what `check_readys` refuses; AGGREGATION where this site's own Ready
        is missing or altered; REFUSED_REPLAY for other Readys than the ones already answered. A
        refusal before the answer leaves the attempt open; one while the answer is made closes it.
        """
        with self._lock:
            participants, ctx = check_readys(
                self.context, readys, least_sites=least_sites, masked=self.masked
            )
            if place_in(participants, self.ready) is None:
                raise WardroundError(
                    Code.AGGREGATION, "This site's own Ready is not among the participants."
                )
            if self._answered is not None and self._answered[0] == ctx:
                return self._answered[1]
            if self._closed:
                raise WardroundError(
                    Code.REFUSED_REPLAY,
                    "This attempt has been answered for other participants.",
                    remedy="Begin the next attempt.",
                )
            self._closed = True
            words = np.ones(len(contribution) + GUARDS, dtype=contribution.dtype)
            words[:-GUARDS] = contribution
            if noise is not None:
                drawn = noise(len(participants))
                if drawn.shape != contribution.shape or drawn.dtype != np.int64:
                    raise WardroundError(Code.INTERNAL, "Noise and contribution differ in shape.")
                words[:-GUARDS] += drawn.astype(words.dtype)
            self._mask(words, ctx, participants)
            words.flags.writeable = False
            self._answered = (ctx, words)
            return words

    def discard(self) -> None:
        """Forgets key and answer: a late Collect for this attempt is refused from now on."""
        with self._lock:
            self._secret, self._answered, self._closed = None, None, True

    def _partners(self, participants: Sequence[SignedKey]) -> list[SignedKey]:
        """With whom this site masks: with everybody, so that the graph of pairs is complete."""
        return [ready for ready in participants if ready.site != self.ready.site]

    def _mask(self, words: npt.NDArray[W], ctx: bytes, participants: Sequence[SignedKey]) -> None:
        secret, self._secret = self._secret, None
        if secret is None:
            raise WardroundError(Code.REFUSED_REPLAY, "The one-time key has been used.")
        own = self.ready.site
        keys = [
            (pair_key(secret, bytes.fromhex(r.public_key), ctx, own, r.site), r.site > own)
            for r in self._partners(participants)
        ]
        add_masks(words, keys)
        for key, _ in keys:
            key[:] = bytes(len(key))


class OpenParty(Party):
    """The same integers without masks, for federations inside one process: equal sums, no keys."""

    masked = False

    @classmethod
    def begin(cls, context: Context, site: str, identity: Identity | None = None) -> Self:
        """Raises WardroundError(IDENTITY) where the roster has no such site."""
        if site not in context.sites:
            raise WardroundError(Code.IDENTITY, f"The roster has no site {site}.")
        return cls(context, SignedKey.unmasked(site, context.digest), None)

    def _mask(self, words: npt.NDArray[W], ctx: bytes, participants: Sequence[SignedKey]) -> None:
        """Leaves the words in clear."""
