"""The key with which a coordinator signs the records of its models, and its public half.

It is no site's identity and no TLS key: Ed25519, made once, 0600, beside coordinator.yaml. Where it
is not there (a coordinator of 0.1.0, or a key that was moved away) a new one is made, which nobody
trusts until its public half has reached them with a new bundle or new credentials.
"""

from __future__ import annotations

import json
from pathlib import Path

from protocol.errors import Code, WardroundError
from protocol.identity import Identity

FILE = "signing.key"
_LONGEST = 1 << 20


def signing_key(folder: Path) -> Identity:
    """The key in a coordinator's folder, made where there is none.

    Raises WardroundError(IDENTITY) where it is unreadable, open to other users, or no such key.
    """
    path = folder / FILE
    if not path.exists():
        try:
            Identity.generate().save(path)
        except WardroundError:
            if not path.exists():  # else another command was quicker
                raise
    return Identity.load(
        path,
        what="signing key",
        remedy="Restore it from a backup, or move it away: a new one is made, which everybody "
        "must be given with a new bundle or new credentials.",
    )


def public_half(source: str | Path) -> bytes:
    """A coordinator's public signing key (32 bytes), from 64 hexadecimal digits or from a file that
    holds it: a bundle, credentials, or what `wardround-site join` wrote.

    Raises WardroundError(CREDENTIALS) where that holds none.
    """
    text = str(source)
    if (key := _key(text)) is not None:
        return key
    try:
        with Path(text).expanduser().open(encoding="utf-8") as file:
            content = file.read(_LONGEST)
    except (OSError, ValueError):
        raise WardroundError(
            Code.CREDENTIALS,
            f"{text} is neither a file that can be read nor a public key of 64 digits.",
            remedy="Give the coordinator's bundle, or your credentials file.",
        ) from None
    if (key := _key(content.strip())) is not None:
        return key
    try:
        key = _key(json.loads(content)["signing_key"])
    except (ValueError, KeyError, TypeError, RecursionError):
        key = None
    if key is None:
        raise WardroundError(
            Code.CREDENTIALS,
            f"{text} holds no signing key of a coordinator.",
            remedy="A coordinator of 0.1.0 had none. Ask its operator, once it is upgraded, for "
            "`wardround coordinator bundle`.",
        )
    return key


def _key(value: object) -> bytes | None:
    if not isinstance(value, str) or len(value) != 64:
        return None
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None
