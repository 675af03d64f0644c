"""Makes `v1.json` from the code as it is: once a version, then the file is never changed.

    python -m tests.vectors.make FILE

Every key is a constant, so that the file is the same whenever it is made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.privacy.gaussian import gaussian
from protocol.privacy.randomness import Stream
from protocol.privacy.skellam import skellam
from protocol.secagg.context import Context, SignedKey, check_readys, encode
from protocol.secagg.masks import add_masks, pair_key
from protocol.secagg.party import NoiseShare, Party

SITES = ("alpha", "beta", "gamma", "delta")
MIN_SITES = 3
_ORDER_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
"""A u-coordinate of small order (RFC 7748, section 6.1; cr.yp.to/ecdh.html)."""


def seed(name: str, purpose: int) -> bytes:
    """(32 bytes) that nobody may ever use for anything else."""
    return bytes([purpose]) + name.encode().ljust(31, b".")


def identity(site: str) -> Identity:
    return Identity(Ed25519PrivateKey.from_private_bytes(seed(site, 1)))


def secret(site: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(seed(site, 2))


def context(**changes: Any) -> Context:
    fields: dict[str, Any] = {
        "study": "11" * 32,
        "kind": "train",
        "round": 3,
        "attempt": 4,
        "model": "22" * 32,
        "roster": tuple((site, identity(site).public_key.hex()) for site in SITES),
    }
    return Context(**(fields | changes))


def ready(site: str, of: Context | None = None, point: bytes | None = None) -> SignedKey:
    key = secret(site).public_key().public_bytes_raw() if point is None else point
    return SignedKey.signed(site, (of or context()).digest, key, identity(site))


def written(signed: SignedKey) -> dict[str, str]:
    return dict(vars(signed))


def made() -> dict[str, Any]:
    """The whole file."""
    sampled = b"a stream's key, for tests only..", (2.25, 1e4, 2.0**40)
    return {
        "version": 1,
        "sites": [_site(site) for site in SITES],
        "contexts": [
            _context(),
            _context(exact=True),
            _context(kind="evaluate", round=0, attempt=2**63 - 1),
        ],
        "sums": [_sum(SITES[:3], 32), _sum(SITES, 64)],
        "masks": [_mask(bits, words) for bits in (32, 64) for words in (5, 40_000)],
        "refused": [*_refused(), _replayed(), _small_order()],
        "skellam": [_skellam(sampled[0], variance) for variance in sampled[1]],
        "gaussian": _gaussian(sampled[0]),
    }


def _site(site: str) -> dict[str, str]:
    return {
        "site": site,
        "identity_seed": seed(site, 1).hex(),
        "identity_key": identity(site).public_key.hex(),
        "one_time_secret": seed(site, 2).hex(),
        "one_time_key": secret(site).public_key().public_bytes_raw().hex(),
        "signed": encode(
            site, context().digest, secret(site).public_key().public_bytes_raw()
        ).hex(),
        **{"ready_" + name: value for name, value in written(ready(site)).items()},
    }


def _context(**changes: Any) -> dict[str, Any]:
    of = context(**changes)
    fields = {name: getattr(of, name) for name in ("study", "kind", "round", "attempt", "model")}
    return fields | {"exact": of.exact, "roster": of.roster, "digest": of.digest}


def contribution(place: int, bits: int) -> Any:
    """(6,) words, large enough to wrap around."""
    words = np.arange(6, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(place)
    return words.astype(np.uint32 if bits == 32 else np.uint64)


def noise(place: int) -> Any:
    """(6,) integers of both signs: here a noise share is given."""
    return (np.arange(6, dtype=np.int64) - 3) * (place + 1)


def given(drawn: npt.NDArray[np.int64]) -> NoiseShare:
    return lambda participants: drawn


def _sum(names: tuple[str, ...], bits: int) -> dict[str, Any]:
    readys = [ready(site) for site in names]
    checked = check_readys(context(), readys, least_sites=MIN_SITES)
    answers = []
    for place, site in enumerate(names):
        party = Party(context(), ready(site), secret(site))
        drawn, clear = noise(place), contribution(place, bits)
        masked = party.share(clear, readys, MIN_SITES, given(drawn))
        answers.append(
            {
                "site": site,
                "contribution": clear.tolist(),
                "noise": drawn.tolist(),
                "pair_keys": {
                    other: pair_key(
                        secret(site),
                        secret(other).public_key().public_bytes_raw(),
                        checked.context,
                        site,
                        other,
                    ).hex()
                    for other in names
                    if other != site
                },
                "answer": masked.tolist(),
            }
        )
    total = sum(np.array(a["answer"], dtype=clear.dtype) for a in answers)
    return {
        "word_bits": bits,
        "participants": list(names),
        "context": checked.context.hex(),
        "answers": answers,
        "sum": np.asarray(total).tolist(),
    }


def _mask(bits: int, count: int) -> dict[str, Any]:
    key = seed(f"mask {bits}", 3)
    words: Any = np.zeros(count, dtype=np.uint32 if bits == 32 else np.uint64)
    add_masks(words, [(key, True)])
    shown = {"first": words[:5].tolist(), "last": words[-5:].tolist()}
    return {"word_bits": bits, "key": key.hex(), "words": count, **shown}


def _refused() -> list[dict[str, Any]]:
    """Readys that no site may answer, with the code of the refusal."""
    good = [ready(site) for site in SITES[:3]]
    forged = SignedKey(**(written(good[1]) | {"signature": good[2].signature}))
    longer = (2**255 - 19 + 9).to_bytes(32, "little")
    cases: list[tuple[str, Context, list[SignedKey]]] = [
        ("too few participants", context(), good[:2]),
        ("an exact sum without one site of the roster", context(exact=True), [
            ready(site, context(exact=True)) for site in SITES[:3]
        ]),
        ("a signature of another site", context(), [good[0], forged, good[2]]),
        ("the Ready of the attempt before", context(), [
            good[0], ready("beta", context(attempt=3)), good[2]
        ]),
        ("the Ready of another study", context(), [
            good[0], ready("beta", context(study="33" * 32)), good[2]
        ]),
        ("a site twice", context(), [*good, good[0]]),
        ("two sites with one one-time key", context(), [
            *good[:2], ready("gamma", point=bytes.fromhex(good[0].public_key))
        ]),
        ("a one-time key that is not reduced", context(), [
            *good[:2], ready("gamma", point=longer)
        ]),
        ("a one-time key in capitals", context(), [
            *good[:2], SignedKey(**(written(good[2]) | {"public_key": good[2].public_key.upper()}))
        ]),
        ("a site that is not on the roster", context(), [
            *good[:2], SignedKey(**(written(good[2]) | {"site": "omega"}))
        ]),
    ]  # fmt: skip
    return [_case(name, of, readys) for name, of, readys in cases]


def _case(name: str, of: Context, readys: list[SignedKey]) -> dict[str, Any]:
    return {
        "case": name,
        "exact": of.exact,
        "readys": [written(signed) for signed in readys],
        "code": refusal(of, readys),
    }


def refusal(of: Context, readys: list[SignedKey], answered: list[SignedKey] | None = None) -> str:
    """The code with which alpha refuses these Readys, after it has answered others if any."""
    party = Party(of, ready("alpha", of), secret("alpha"))
    clear = contribution(0, 32)
    if answered is not None:
        party.share(clear, answered, MIN_SITES)
    try:
        party.share(clear, readys, MIN_SITES)
    except WardroundError as error:
        return error.code.value
    raise AssertionError("alpha answered")


def _replayed() -> dict[str, Any]:
    good = [ready(site) for site in SITES]
    return {
        "case": "other participants after an answer",
        "exact": False,
        "answered": [written(signed) for signed in good[:3]],
        "readys": [written(signed) for signed in good],
        "code": refusal(context(), good, answered=good[:3]),
    }


def _small_order() -> dict[str, Any]:
    point = bytes.fromhex(_ORDER_8)
    readys = [ready("alpha"), ready("beta"), ready("gamma", point=point)]
    return _case("a one-time key of small order", context(), readys)


def _skellam(key: bytes, variance: float) -> dict[str, Any]:
    values = skellam(variance, 20, Stream(key))
    return {"key": key.hex(), "variance": variance, "values": values.tolist()}


def _gaussian(key: bytes) -> dict[str, Any]:
    values = gaussian(4096, Stream(key))
    return {
        "key": key.hex(),
        "count": len(values),
        "first": [value.hex() for value in values[:20].tolist()],
        "sum": float(np.sum(values)),
        "sum_of_squares": float(np.sum(values**2)),
        "keystream": Stream(key).words(4).tolist(),
        "uniform": [value.hex() for value in Stream(key).uniform(4).tolist()],
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(made(), indent=1) + "\n")
