"""The site's node key, by which Flower's node authentication identifies the site.

ECDSA P-384, PEM, the public part as SubjectPublicKeyInfo: the form that Flower's own tools make
with ssh-keygen. The coordinator's operator puts the public part on the allow-list; the private
part never leaves the site.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret

_NEW = "Make one with `wardround-site init` and have it registered at the coordinator."


def create_node_key(path: Path) -> bytes:
    """Makes a key at `path` (0600, never overwritten); returns its public part in PEM.

    Raises WardroundError(NODE_KEY) when there is a file already.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    durable_files.make_folder(path.parent)
    try:
        durable_files.write(path, pem, replace=False)
    except FileExistsError:
        raise WardroundError(
            Code.NODE_KEY,
            f"There is a node key at {path} already.",
            remedy="Use it; a new one must be registered at the coordinator.",
        ) from None
    return public_pem(key)


def successor_of(path: Path) -> Path:
    """Where the key lies that takes the place of the one at `path`, once the coordinator knows
    it."""
    return path.with_name(f"{path.name}.next")


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Reads a node key, in PEM or in OpenSSH's form.

    Raises WardroundError(NODE_KEY) for a file that `read_secret` refuses or that is no ECDSA key.
    """
    content = read_secret(
        path,
        "node key",
        Code.NODE_KEY,
        remedy=_NEW,
        exposed="make a new one if others may have read it",
    )
    openssh = content.startswith(b"-----BEGIN OPENSSH")
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        key = load(content, None)
    except (ValueError, TypeError):
        raise _unfit(path, "is not a private key without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unfit(path, "is not an ECDSA key")
    return key


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public part, in the bytes that Flower compares."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _unfit(path: Path, what: str) -> WardroundError:
    return WardroundError(Code.NODE_KEY, f"The node key {path} {what}.", remedy=_NEW)
