"""A site's identity: what a key file must be, what a signature proves, what is read aloud."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import Code, WardroundError
from protocol.identity import Identity, fingerprint, verify
from tests.full_disk import disk_of


def test_saved_key_is_the_owners_alone_and_loads_again(tmp_path: Path) -> None:
    identity, path = Identity.generate(), tmp_path / "site.key"
    identity.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = Identity.load(path)
    assert loaded.public_key == identity.public_key
    assert verify(identity.public_key, "purpose", b"message", loaded.sign("purpose", b"message"))


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    Identity.generate().save(path)
    before = path.read_bytes()
    with pytest.raises(WardroundError) as refusal:
        Identity.generate().save(path)
    assert refusal.value.code is Code.IDENTITY
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_half_of_a_key(tmp_path: Path) -> None:
    with disk_of(20), pytest.raises(WardroundError, match="cannot be written") as refusal:
        Identity.generate().save(tmp_path / "site.key")
    assert refusal.value.code is Code.IDENTITY
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "site.key"
    Identity.generate().save(path)
    path.chmod(mode)
    with pytest.raises(WardroundError, match="open to other users") as refusal:
        Identity.load(path)
    assert "chmod 600" in refusal.value.remedy


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    def pem(key: X25519PrivateKey | Ed25519PrivateKey, password: bytes | None) -> bytes:
        encryption = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    contents = [
        b"",
        b"not a key",
        pem(X25519PrivateKey.generate(), None),
        pem(Ed25519PrivateKey.generate(), b"password"),
    ]
    for content in contents:
        path = tmp_path / "other.key"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(WardroundError) as refusal:
            Identity.load(path)
        assert refusal.value.code is Code.IDENTITY
    with pytest.raises(WardroundError) as refusal:
        Identity.load(tmp_path / "missing.key")
    assert refusal.value.code is Code.IDENTITY


def test_a_signature_holds_for_its_key_purpose_and_message_only() -> None:
    one, other = Identity.generate(), Identity.generate()
    signature = one.sign("ready", b"key")
    assert verify(one.public_key, "ready", b"key", signature)
    assert not verify(other.public_key, "ready", b"key", signature)
    assert not verify(one.public_key, "audit", b"key", signature)
    assert not verify(one.public_key, "ready", b"kex", signature)
    assert not verify(one.public_key, "readyk", b"ey", signature)
    assert not verify(one.public_key, "ready", b"key", signature[:-1])
    assert not verify(b"short", "ready", b"key", signature)


def test_a_fingerprint_can_be_read_aloud() -> None:
    keys = [Identity.generate().public_key for _ in range(50)]
    prints = {fingerprint(key) for key in keys}
    assert len(prints) == len(keys)
    assert fingerprint(keys[0]) == fingerprint(keys[0])
    for text in prints:
        assert [len(group) for group in text.split(" ")] == [4] * 5
        assert not set("ILOU") & set(text)


def test_the_private_half_does_not_show_in_a_repr() -> None:
    assert repr(Identity.generate()) == "Identity()"
