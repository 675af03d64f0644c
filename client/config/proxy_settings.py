"""The proxy through which this site reaches its coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field
from pydantic import model_validator as validator

from protocol.address import RemoteAddress
from protocol.document import Document
from protocol.yaml.documents import contradiction
from protocol.yaml.values import LocalPath


class ProxySettings(Document):
    """Where the proxy listens, and the login that it asks for. The password never stands in
    site.yaml: it is in a file that only the daemon's user may read."""

    address: RemoteAddress = Field(description="host:port of the proxy")
    user: str | None = Field(
        default=None, pattern=r"^[^:\x00-\x1f]+$", description="a name without a colon"
    )
    password_file: LocalPath | None = Field(
        default=None, description="the path of a file (mode 600) that holds the password alone"
    )

    @validator(mode="after")
    def _whole_login(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise contradiction("user and password_file belong together", "Set both, or neither")
        return self

    def absolute(self, base: Path) -> Self:
        """The same with the password's file below `base`."""
        return self.model_copy(
            update={"password_file": self.password_file and base / self.password_file}
        )
