"""What was decided last, asked of the coordinator: whoever can write to MLflow can put an older
approval of a version back there, and both signatures of it are good."""

from __future__ import annotations

import json
import os
from pathlib import Path

from launch.federations.login import kept_credentials
from launch.review.decide import Review
from protocol.errors import Code, WardroundError
from protocol.models.decision import DecisionHistory
from server.enrolment.accounts import Credentials
from server.tracking.registered_model import CREDENTIALS, required_key


def newest(key: Path | None, coordinator: str | None, *, offline: bool) -> DecisionHistory | None:
    """Every decision so far, with the account at hand: `key` itself where that is credentials, then
    what WARDROUND_CREDENTIALS names, then what `wardround login` kept. Of another coordinator than
    the one that is trusted an account is of no use. None where there is no account, or `offline`.

    Raises WardroundError: CREDENTIALS without a trusted key, or for an account's file that others
    may read, and what `Review.history` raises: a
    coordinator that does not answer is no coordinator that has withdrawn nothing.
    """
    trusted = required_key(key).hex()
    if offline or (account := _account(key, trusted)) is None:
        return None
    try:
        return Review(account, coordinator).history()
    except WardroundError as error:
        if error.code is not Code.UNREACHABLE:
            raise
        raise WardroundError(
            Code.UNREACHABLE,
            f"{error.message} Whether the approval was withdrawn since cannot be asked.",
            remedy="Try again when it answers, or take the approval as MLflow has it: --offline. "
            "A hospital that has heard of a withdrawal refuses the file.",
        ) from None


def _account(key: Path | None, trusted: str) -> Path | None:
    for file in (key, os.environ.get(CREDENTIALS), kept_credentials()):
        path = None if not file else Path(file).expanduser()
        if path is not None and _has_token(path) and Credentials.load(path).signing_key == trusted:
            return path
    return None


def _has_token(path: Path) -> bool:
    """Whether this is an account's, not a bundle or another file with the public key alone. One
    that others may read is refused by `Credentials.load`, not passed over."""
    try:
        return "token" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False
