"""The test vectors: what this code computes, and what somebody else computes from the README."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.privacy.gaussian import gaussian
from protocol.privacy.randomness import Stream
from protocol.privacy.skellam import skellam
from protocol.secagg.context import Context, SignedKey, check_readys
from protocol.secagg.masks import add_masks
from protocol.secagg.party import NoiseShare, Party

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "v1.json").read_text())
SITES = {site["site"]: site for site in VECTORS["sites"]}
MIN_SITES = 3
TYPES = {32: np.uint32, 64: np.uint64}


def context(written: dict[str, Any]) -> Context:
    fields = {name: value for name, value in written.items() if name != "digest"}
    return Context(**(fields | {"roster": tuple(tuple(one) for one in written["roster"])}))


def ready_of(site: str) -> SignedKey:
    names = ("site", "context", "public_key", "signature")
    return SignedKey(*(SITES[site][f"ready_{name}"] for name in names))


def given(noise: npt.NDArray[np.int64]) -> NoiseShare:
    return lambda participants: noise


def party(of: Context, site: str, ready: SignedKey) -> Party:
    secret = bytes.fromhex(SITES[site]["one_time_secret"])
    return Party(of, ready, X25519PrivateKey.from_private_bytes(secret))


# This code


def test_contexts_and_readys_are_those_of_the_file() -> None:
    for written in VECTORS["contexts"]:
        assert context(written).digest == written["digest"]
    for name, site in SITES.items():
        seed = bytes.fromhex(site["identity_seed"])
        identity = Identity(Ed25519PrivateKey.from_private_bytes(seed))
        key = bytes.fromhex(site["one_time_key"])
        assert identity.public_key.hex() == site["identity_key"]
        digest = VECTORS["contexts"][0]["digest"]
        assert SignedKey.signed(name, digest, key, identity) == ready_of(name)


@pytest.mark.parametrize("case", VECTORS["sums"], ids=lambda case: f"{case['word_bits']} bits")
def test_answers_and_sums_are_those_of_the_file(case: dict[str, Any]) -> None:
    of, kind = context(VECTORS["contexts"][0]), TYPES[case["word_bits"]]
    readys = [ready_of(site) for site in case["participants"]]
    assert check_readys(of, readys, least_sites=MIN_SITES).context.hex() == case["context"]
    total = np.zeros(len(case["sum"]), dtype=kind)
    for answer in case["answers"]:
        clear = np.array(answer["contribution"], dtype=kind)
        noise = np.array(answer["noise"], dtype=np.int64)
        site = party(of, answer["site"], ready_of(answer["site"]))
        masked = site.share(clear, readys, MIN_SITES, given(noise))
        assert masked.tolist() == answer["answer"]
        total += masked
    assert total.tolist() == case["sum"]


@pytest.mark.parametrize("case", VECTORS["masks"])
def test_masks_are_those_of_the_file(case: dict[str, Any]) -> None:
    words = np.zeros(case["words"], dtype=TYPES[case["word_bits"]])
    add_masks(words, [(bytes.fromhex(case["key"]), True)])
    assert (words[:5].tolist(), words[-5:].tolist()) == (case["first"], case["last"])


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["case"])
def test_hostile_readys_are_refused_with_the_code_of_the_file(case: dict[str, Any]) -> None:
    of = next(
        context(written)
        for written in VECTORS["contexts"]
        if written["exact"] == case["exact"] and written["kind"] == "train"
    )
    readys = [SignedKey(**ready) for ready in case["readys"]]
    site = party(of, "alpha", readys[0])
    if answered := [SignedKey(**ready) for ready in case.get("answered", [])]:
        site.share(np.zeros(6, np.uint32), answered, MIN_SITES)
    with pytest.raises(WardroundError) as caught:
        site.share(np.zeros(6, np.uint32), readys, MIN_SITES)
    assert caught.value.code == case["code"]


@pytest.mark.parametrize("case", VECTORS["skellam"], ids=lambda case: f"{case['variance']:g}")
def test_skellam_values_are_those_of_the_file(case: dict[str, Any]) -> None:
    values = skellam(case["variance"], len(case["values"]), Stream(bytes.fromhex(case["key"])))
    assert values.tolist() == case["values"]


def test_gaussian_values_are_those_of_the_file() -> None:
    case = VECTORS["gaussian"]
    key = bytes.fromhex(case["key"])
    values = gaussian(case["count"], Stream(key))
    first = [float.fromhex(text) for text in case["first"]]
    assert values[:20].tolist() == pytest.approx(first, rel=1e-12)
    assert values.sum() == pytest.approx(case["sum"], rel=1e-9)
    assert (values**2).sum() == pytest.approx(case["sum_of_squares"], rel=1e-9)
    assert Stream(key).words(4).tolist() == case["keystream"]
    assert [value.hex() for value in Stream(key).uniform(4).tolist()] == case["uniform"]


# A second implementation, from the README alone


def fields(*values: str | bytes | int) -> bytes:
    text = b""
    for value in values:
        raw = value.encode() if isinstance(value, str) else value
        raw = raw.to_bytes(8, "big") if isinstance(raw, int) else raw
        text += len(raw).to_bytes(8, "big") + raw
    return text


VERSION = "wardround secure aggregation 1"


def test_the_description_of_contexts_suffices() -> None:
    for case in VECTORS["contexts"]:
        head = [VERSION, case["study"], case["kind"], int(case["exact"]), case["round"]]
        roster = sorted(map(tuple, case["roster"]))
        text = fields(*head, case["attempt"], case["model"], len(roster), *sum(roster, ()))
        assert hashlib.sha256(text).hexdigest() == case["digest"]


def test_the_description_of_readys_suffices() -> None:
    purpose = b"wardround secure aggregation 1: ready"
    for site in VECTORS["sites"]:
        text = fields(site["site"], site["ready_context"], bytes.fromhex(site["one_time_key"]))
        assert text.hex() == site["signed"]
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(site["identity_key"]))
        signed = len(purpose).to_bytes(8, "big") + purpose + text
        public.verify(bytes.fromhex(site["ready_signature"]), signed)
        with pytest.raises(InvalidSignature):
            public.verify(bytes.fromhex(site["ready_signature"]), text)


def pair_key(own: str, other: str, salt: bytes) -> bytes:
    mine = X25519PrivateKey.from_private_bytes(bytes.fromhex(SITES[own]["one_time_secret"]))
    theirs = bytes.fromhex(SITES[other]["one_time_key"])
    shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    extracted = hmac.digest(salt, shared, "sha256")
    info = b"mask" + fields(*sorted([own, other]))
    return hmac.digest(extracted, info + b"\x01", "sha256")


@pytest.mark.parametrize("case", VECTORS["sums"], ids=lambda case: f"{case['word_bits']} bits")
def test_the_description_of_answers_suffices(case: dict[str, Any]) -> None:
    names, bits = sorted(case["participants"]), case["word_bits"]
    text = fields(VERSION, VECTORS["contexts"][0]["digest"], len(names))
    for name in names:
        ready = ready_of(name)
        text += fields(ready.site, ready.context, ready.public_key, ready.signature)
    salt = hashlib.sha256(text).digest()
    assert salt.hex() == case["context"]
    for answer in case["answers"]:
        own = answer["site"]
        noised = zip(answer["contribution"], answer["noise"], strict=True)
        words = [clear + noise for clear, noise in noised] + [1, 1]
        for other in names:
            if other == own:
                continue
            key = pair_key(own, other, salt)
            assert key.hex() == answer["pair_keys"][other]
            stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
            mask = stream.update(bytes(len(words) * bits // 8))
            for place in range(len(words)):
                word = int.from_bytes(mask[place * bits // 8 : (place + 1) * bits // 8], "little")
                words[place] += word if other > own else -word
        assert [word % 2**bits for word in words] == answer["answer"]


def test_the_description_of_the_keystream_suffices() -> None:
    case = VECTORS["gaussian"]
    cipher = Cipher(algorithms.AES(bytes.fromhex(case["key"])), modes.CTR(bytes(16)))
    text = cipher.encryptor().update(bytes(32))
    words = [int.from_bytes(text[place : place + 8], "little") for place in range(0, 32, 8)]
    assert words == case["keystream"]
    assert [((float(word) + 0.5) * 2.0**-64).hex() for word in words] == case["uniform"]


def settled(value: float, layer: int, uniform: float) -> bool:
    """Whether a point of a layer lies under the curve, by the README's table."""
    _, height = ziggurat()
    under = height[layer] + (height[layer + 1] - height[layer]) * uniform
    return under < math.exp(-0.5 * value * value)


def ziggurat() -> tuple[list[float], list[float]]:
    edge = 4.038849846109505
    tail = math.sqrt(math.pi / 2) * math.erfc(edge / math.sqrt(2))
    area = edge * math.exp(-0.5 * edge**2) + tail
    edges = [area / math.exp(-0.5 * edge**2), edge]
    while len(edges) < 1024:
        edges.append(math.sqrt(-2 * math.log(math.exp(-0.5 * edges[-1] ** 2) + area / edges[-1])))
    edges.append(0.0)
    return edges, [math.exp(-0.5 * place**2) for place in edges]


def test_the_description_of_gaussian_values_suffices() -> None:
    """The first twenty; those that are settled by the layer alone, and those that are not."""
    case = VECTORS["gaussian"]
    stream, (edges, _) = Stream(bytes.fromhex(case["key"])), ziggurat()
    words = stream.words(case["count"]).view(np.int64).tolist()
    doubtful = [
        place
        for place, word in enumerate(words)
        if abs(word >> 10) >= edges[(word & 1023) + 1] / edges[word & 1023] * 2**53
    ]
    uniforms = dict(zip(doubtful, stream.uniform(len(doubtful)).tolist(), strict=True))
    for place, text in enumerate(case["first"]):
        layer = words[place] & 1023
        value = (words[place] >> 10) * edges[layer] * 2.0**-53
        if place not in uniforms or (layer and settled(value, layer, uniforms[place])):
            assert float.fromhex(text) == pytest.approx(value, rel=1e-12)
    assert len(set(range(20)) - set(doubtful)) > 15
