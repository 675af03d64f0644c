"""The reviewers whose approvals count at this site: pinned by `join`, after a comparison."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from client.config.site_config import SiteConfig
from protocol.errors import Code, WardroundError
from protocol.models.decision import Keys
from protocol.study.study import Digest, Name

_KEYS: TypeAdapter[dict[Name, Digest]] = TypeAdapter(dict[Name, Digest])


def reviewers_file(config: SiteConfig) -> Path:
    """Reviewer -> public key in hexadecimal, beside the coordinator's certificate."""
    return config.coordinator.root_certificate.with_name("reviewers.json")


def known_reviewers(config: SiteConfig) -> dict[str, str]:
    """As the file has them; nobody where no bundle has named one.

    Raises WardroundError(CONFIGURATION) where it is unreadable.
    """
    path = reviewers_file(config)
    try:
        return _KEYS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} cannot be read.",
            remedy="`wardround-site join` with the coordinator's bundle writes it again.",
        ) from None


def counting(config: SiteConfig) -> Keys:
    """Reviewer -> the keys whose approvals count here. Raises as `known_reviewers`."""
    return {name: frozenset({key}) for name, key in known_reviewers(config).items()}


def text(reviewers: dict[str, str]) -> bytes:
    """The file's content."""
    return (json.dumps(reviewers, indent=2, sort_keys=True) + "\n").encode()
