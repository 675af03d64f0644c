"""Data scientists' accounts at a coordinator: a random token each, of which only a hash is stored.

A token has 256 bits from the operating system, so its plain SHA-256 can be neither guessed nor
found in a table. Slow hashes (scrypt, Argon2) are for passwords that people choose; here they would
let any caller keep the coordinator busy.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from protocol.document import Document, added_field
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret
from protocol.study.study import Digest, Name
from server.enrolment.json_store import JsonFile, changed, write_json

_PREFIX = "wardround_"
"""Lets a scanner for leaked secrets recognise a token."""


class Account(Document):
    """The stored facts of one account."""

    token_sha256: Digest
    created: str


class _AccountsFile(Document):
    accounts: dict[Name, Account] = Field(default={})


class Credentials(Document):
    """A data scientist's credentials file: coordinator, its CA, account and token, and the public
    half of the key with which it signs models."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    coordinator: str
    ca: str
    account: Name
    token: str = Field(repr=False)
    signing_key: Digest | None = added_field(None)

    @staticmethod
    def load(path: Path) -> Credentials:
        """Raises WardroundError(CREDENTIALS) where `read_secret` does, and for a malformed file."""
        again = "Ask the coordinator's operator for `wardround coordinator account add`."
        content = read_secret(
            path,
            "credentials file",
            Code.CREDENTIALS,
            remedy=again,
            exposed="ask for a new token if others may have read it",
        )
        try:
            return Credentials.model_validate_json(content)
        except ValidationError:
            raise WardroundError(
                Code.CREDENTIALS, f"{path} is not a file of credentials.", remedy=again
            ) from None


class Accounts:
    """The file of accounts, checked for changes at every call: a removal holds at once."""

    def __init__(self, path: Path) -> None:
        self._file = JsonFile(path, _AccountsFile)

    def add(self, name: str) -> str:
        """Makes an account; returns its token, which exists nowhere else.

        Raises WardroundError(USAGE) for a name that is taken or not allowed.
        """
        token = _PREFIX + secrets.token_urlsafe(32)
        with changed(self._file) as (file, put):
            if name in file.accounts:
                raise WardroundError(
                    Code.USAGE,
                    f"There is an account {name} already.",
                    remedy="Remove it first to give it a new token.",
                )
            account = Account(
                token_sha256=_hashed(token), created=datetime.now(UTC).isoformat(timespec="seconds")
            )
            try:
                put(_AccountsFile(accounts=file.accounts | {name: account}))
            except ValidationError:
                raise WardroundError(
                    Code.USAGE,
                    f"{name!r} cannot be an account's name.",
                    remedy="Use up to 64 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first.",
                ) from None
        return token

    def remove(self, name: str) -> None:
        """Its token is refused from now on. Raises WardroundError(USAGE) for an unknown name."""
        with changed(self._file) as (file, put):
            if name not in file.accounts:
                raise WardroundError(
                    Code.USAGE,
                    f"There is no account {name}.",
                    remedy="`wardround coordinator account list` names them.",
                )
            put(_AccountsFile(accounts={n: a for n, a in file.accounts.items() if n != name}))

    def all(self) -> dict[str, Account]:
        return dict(sorted(self._file.value().accounts.items()))

    def owner(self, token: str) -> str | None:
        """Whose token it is; None for nobody's, and for everybody's while the file is unreadable.

        All stored hashes are compared, each in constant time, even after a match.
        """
        try:
            accounts = self._file.value().accounts
        except WardroundError:
            return None
        hashed, owner = _hashed(token), None
        for name, account in accounts.items():
            if hmac.compare_digest(account.token_sha256, hashed):
                owner = name
        return owner


def issue(path: Path, credentials: Credentials) -> None:
    """Writes a credentials file (0600). Raises WardroundError(USAGE) rather than overwrite."""
    refuse_existing(path)
    write_json(path, credentials.model_dump())


def refuse_existing(path: Path) -> None:
    if path.exists():
        raise WardroundError(
            Code.USAGE, f"{path} exists already.", remedy="Choose another name with --out."
        )


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
