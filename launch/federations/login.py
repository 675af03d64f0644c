"""Where a data scientist's credentials are kept, so that no command has to name them."""

from __future__ import annotations

import os
from pathlib import Path

from launch.federations.deployment import RemoteFederation
from protocol import durable_files
from protocol.errors import unwritable
from server.enrolment.accounts import Credentials
from server.enrolment.json_store import write_json


def kept_credentials() -> Path:
    """The file in the user's configuration folder (XDG Base Directory, XDG_CONFIG_HOME)."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "wardround" / "credentials.json"


def login(file: Path) -> tuple[Credentials, dict[str, int]]:
    """Tries credentials at their coordinator, and keeps them; those kept before are replaced.

    Returns them, and its hospitals with the patients that each declares. Raises WardroundError:
    CREDENTIALS (the file, or its token), TLS, UNREACHABLE.
    """
    credentials = Credentials.load(file)
    with RemoteFederation(file, patience=0) as remote:
        patients = remote.patients()
    kept = kept_credentials()
    try:
        kept.parent.parent.mkdir(parents=True, exist_ok=True)
        durable_files.make_folder(kept.parent)
        write_json(kept, credentials.model_dump())
    except OSError as error:
        raise unwritable(kept, error) from None
    return credentials, patients
