"""Accounts at a coordinator: a random token each, of which only a hash is stored, and for reviewers
the public half of the key by which they sign their decisions.

A token has 256 bits from the operating system, so its plain SHA-256 can be neither guessed nor
found in a table. Slow hashes (scrypt, Argon2) are for passwords that people choose; here they would
let any caller keep the coordinator busy.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, assert_never

from pydantic import Field, ValidationError, field_validator

from protocol.document import Document, added_field
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret
from protocol.study.study import Digest, Name
from server.enrolment.account_terms import TOKEN_DAYS, Role
from server.enrolment.json_store import JsonFile, changed, write_json

_PREFIX = "wardround_"
"""Lets a scanner for leaked secrets recognise a token."""


class Account(Document):
    """The stored facts of one account. Those of 0.1.0 state neither expiry nor role."""

    token_sha256: Digest
    created: str
    expires: str | None = None
    role: Role = "own_studies"
    key: Digest | None = added_field(None)
    """A reviewer's public key (Ed25519)."""

    @property
    def sees_all(self) -> bool:
        match self.role:
            case "own_studies":
                return False
            case "all_studies" | "reviewer":
                return True
        assert_never(self.role)

    @property
    def submits(self) -> bool:
        """Whether it may start studies."""
        match self.role:
            case "own_studies" | "all_studies":
                return True
            case "reviewer":
                return False
        assert_never(self.role)

    def expired(self) -> bool:
        return self.expires is not None and datetime.fromisoformat(self.expires) <= datetime.now(
            UTC
        )

    @field_validator("expires")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        """Raises ValueError for what is not a time with its zone."""
        if value is not None and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("a time needs its zone")
        return value


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


Deliver = Callable[[str], None]
"""Writes a new token down for its owner."""


def _keep_nothing(token: str) -> None:
    """The caller has the token."""


class Accounts:
    """The file of accounts, checked for changes at every call: a removal holds at once."""

    def __init__(self, path: Path) -> None:
        self._file = JsonFile(path, _AccountsFile)

    def add(
        self,
        name: str,
        days: int = TOKEN_DAYS,
        role: Role = "own_studies",
        deliver: Deliver = _keep_nothing,
    ) -> str:
        """Makes an account; returns its token, good for so many days, which exists nowhere else.

        deliver: gets the token before the account has it; where that raises, nothing changes.
        Raises WardroundError(USAGE) for a name that is taken or not allowed.
        """
        with changed(self._file) as (file, put):
            if name in file.accounts:
                raise WardroundError(
                    Code.USAGE,
                    f"There is an account {name} already.",
                    remedy=f"`wardround coordinator account rotate {name}` gives it a new token.",
                )
            token, account = _new(days, role)
            try:
                accounts = _AccountsFile(accounts=file.accounts | {name: account})
            except ValidationError:
                raise WardroundError(
                    Code.USAGE,
                    f"{name!r} cannot be an account's name.",
                    remedy="Use up to 64 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first.",
                ) from None
            deliver(token)
            put(accounts)
        return token

    def rotate(
        self,
        name: str,
        days: int = TOKEN_DAYS,
        role: Role | None = None,
        deliver: Deliver = _keep_nothing,
    ) -> str:
        """A new token for an account, and perhaps another role; the old token is refused from now
        on. deliver: as in `add`. Raises WardroundError(USAGE) for an unknown name."""
        with changed(self._file) as (file, put):
            old = _existing(file, name)
            token, account = _new(days, role or old.role)
            account = account.model_copy(update={"created": old.created, "key": old.key})
            deliver(token)
            put(_AccountsFile(accounts=file.accounts | {name: account}))
        return token

    def set_key(self, name: str, key: str) -> None:
        """The public key (64 hexadecimal digits) by which a reviewer signs from now on.

        Raises WardroundError(USAGE) for an unknown name, an account that is no reviewer's, and what
        is no key or another account's.
        """
        with changed(self._file) as (file, put):
            account = _existing(file, name)
            if account.submits:
                raise WardroundError(
                    Code.USAGE,
                    f"{name} is no reviewer.",
                    remedy=f"`wardround coordinator account rotate {name} --role reviewer`, or "
                    "give the key to an account of its own: nobody judges their own studies.",
                )
            if key in (of.key for other, of in file.accounts.items() if other != name):
                raise WardroundError(
                    Code.USAGE,
                    "Another account has this key.",
                    remedy="Each reviewer makes their own: `wardround review key`.",
                )
            known = account.model_copy(update={"key": public_key(key).hex()})
            put(_AccountsFile(accounts=file.accounts | {name: known}))

    def remove(self, name: str) -> None:
        """Its token is refused from now on. Raises WardroundError(USAGE) for an unknown name."""
        with changed(self._file) as (file, put):
            _existing(file, name)
            put(_AccountsFile(accounts={n: a for n, a in file.accounts.items() if n != name}))

    def all(self) -> dict[str, Account]:
        return dict(sorted(self._file.value().accounts.items()))

    def sees_all(self, name: str) -> bool:
        """Whether an account sees everybody's studies; False while the file is unreadable."""
        try:
            account = self._file.value().accounts.get(name)
        except WardroundError:
            return False
        return account is not None and account.sees_all

    def submits(self, name: str) -> bool:
        """Whether an account may start studies; False while the file is unreadable."""
        try:
            account = self._file.value().accounts.get(name)
        except WardroundError:
            return False
        return account is not None and account.submits

    def reviewers(self) -> dict[str, str]:
        """Reviewer -> public key in hexadecimal, of those who have one.

        Raises WardroundError(CONFIGURATION) while the file is unreadable.
        """
        return {
            name: account.key
            for name, account in self.all().items()
            if account.key is not None and not account.submits
        }

    def owner(self, token: str) -> str | None:
        """Whose token it is; None for nobody's, for one that has expired, and for everybody's while
        the file is unreadable.

        All stored hashes are compared, each in constant time, even after a match.
        """
        try:
            accounts = self._file.value().accounts
        except WardroundError:
            return None
        hashed, owner = _hashed(token), None
        for name, account in accounts.items():
            if hmac.compare_digest(account.token_sha256, hashed) and not account.expired():
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


def _existing(file: _AccountsFile, name: str) -> Account:
    if name not in file.accounts:
        raise WardroundError(
            Code.USAGE,
            f"There is no account {name}.",
            remedy="`wardround coordinator account list` names them.",
        )
    return file.accounts[name]


def public_key(text: str) -> bytes:
    """A reviewer's public key (32 bytes) from 64 hexadecimal digits. Raises WardroundError(USAGE)
    for anything else."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32 or key.hex() != text:
        raise WardroundError(
            Code.USAGE,
            "This is no public key of 64 hexadecimal digits in lower case.",
            remedy="`wardround review key` shows it, at the reviewer's machine.",
        )
    return key


def _new(days: int, role: Role) -> tuple[str, Account]:
    """A token, and the account that it opens."""
    token, now = _PREFIX + secrets.token_urlsafe(32), datetime.now(UTC).replace(microsecond=0)
    expires = (now + timedelta(days=days)).isoformat()
    return token, Account(
        token_sha256=_hashed(token), created=now.isoformat(), expires=expires, role=role
    )


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
