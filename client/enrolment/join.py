"""Joins a federation: takes over the coordinator's address, CA and roster, after a comparison.

Fingerprints are compared by telephone, because whoever can swap a key on the way can impersonate a
hospital.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, StringConstraints, ValidationError

from client.config.site_config import SiteConfig
from client.enrolment.new_site import ROSTER, roster_text
from client.yaml_documents import read_yaml
from protocol import durable_files
from protocol.document import Document, added_field
from protocol.errors import Code, WardroundError
from protocol.identity import fingerprint
from protocol.study.study import Digest, Name
from protocol.untrusted import parsing
from protocol.wire.enrolment import refused_file

_MAX_BYTES = 1 << 20
Change = Literal["this site", "known", "new", "CHANGED"]


class FederationBundle(Document):
    """What a coordinator's operator hands to every site: address, CA (PEM) and roster, and the
    public half of the key that signs the coordinator's models (0.1.0 had none)."""

    coordinator: str
    ca: Annotated[str, StringConstraints(max_length=64 * 1024)]
    roster: Annotated[dict[Name, Digest], Field(min_length=1, max_length=1000)]
    signing_key: Digest | None = added_field(None)

    @staticmethod
    def load(path: Path) -> FederationBundle:
        """Raises WardroundError(USAGE) for a file that is not a bundle, (RELEASE) for one of a
        newer release, (TLS) for its CA."""
        again = "Ask the coordinator's operator for the file that `wardround coordinator` made."
        try:
            with path.open("rb") as file:
                bundle = FederationBundle.model_validate_json(file.read(_MAX_BYTES))
        except OSError as error:
            raise WardroundError(
                Code.USAGE, f"The bundle {path} cannot be read: {error.strerror}.", remedy=again
            ) from None
        except ValidationError as error:
            raise refused_file(error, path, "a bundle", again) from None
        bundle.ca_fingerprint()
        return bundle

    def ca_fingerprint(self) -> str:
        """Returns the fingerprint of the CA certificate (DER). Raises WardroundError(TLS) where it
        is no certificate of an authority."""
        again = "Ask the coordinator's operator for the bundle again."
        with parsing("The bundle's `ca` is no certificate of an authority.", Code.TLS, again):
            certificate = x509.load_pem_x509_certificate(self.ca.encode())
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
            if not constraints.value.ca:
                raise ValueError
        return fingerprint(certificate.public_bytes(Encoding.DER))


@dataclass(frozen=True)
class BundleComparison:
    """What a bundle would change at this site. `sites`: name -> (fingerprint, change);
    `signing_key`: the same of the key that signs models, None where the bundle has none."""

    config_path: Path
    config: SiteConfig
    bundle: FederationBundle
    sites: dict[str, tuple[str, Change]]
    leaving: tuple[str, ...]
    signing_key: tuple[str, Change] | None


def compare(config_path: Path, bundle: FederationBundle) -> BundleComparison:
    """Compares a bundle with this site; changes nothing.

    Raises WardroundError(IDENTITY) where the bundle lacks this site or gives it another key.
    """
    config = SiteConfig.load(config_path)
    own = config.load_identity().public_key.hex()
    theirs = bundle.roster.get(config.site)
    if theirs is None:
        raise WardroundError(
            Code.IDENTITY,
            f"The bundle's roster does not name this site, {config.site}.",
            remedy="Send `wardround-site enrol` to the coordinator's operator first.",
        )
    if theirs != own:
        raise WardroundError(
            Code.IDENTITY,
            f"The bundle gives {config.site} an identity key that is not this site's.",
            remedy="Nothing was changed. Call the coordinator's operator: someone may have "
            "swapped the enrolment card.",
        )
    if len(set(bundle.roster.values())) < len(bundle.roster):
        raise WardroundError(
            Code.IDENTITY,
            "The bundle gives two sites the same identity key.",
            remedy="Nothing was changed. Ask the coordinator's operator for a corrected bundle.",
        )

    def change(site: str, key: str) -> Change:
        if site == config.site:
            return "this site"
        if site not in config.roster:
            return "new"
        return "known" if config.roster[site] == key else "CHANGED"

    sites = {
        site: (fingerprint(bytes.fromhex(key)), change(site, key))
        for site, key in sorted(bundle.roster.items())
    }
    leaving = tuple(sorted(set(config.roster) - set(bundle.roster)))
    signs = None if bundle.signing_key is None else _signing_change(config, bundle.signing_key)
    return BundleComparison(config_path, config, bundle, sites, leaving, signs)


def signing_key_file(config: SiteConfig) -> Path:
    """Where the public half of the key that signs the coordinator's models is kept, for
    `wardround.load`."""
    return config.coordinator.root_certificate.with_name("coordinator-signing-key.pub")


def _signing_change(config: SiteConfig, key: str) -> tuple[str, Change]:
    try:
        known = signing_key_file(config).read_text().strip()
    except OSError:
        return fingerprint(bytes.fromhex(key)), "new"
    return fingerprint(bytes.fromhex(key)), "known" if known == key else "CHANGED"


def join(compared: BundleComparison) -> SiteConfig:
    """Writes CA, roster, signing key and the coordinator's address; the rest of site.yaml stays
    as it is.

    Raises WardroundError(CONFIGURATION) where site.yaml cannot be changed by machine.
    """
    path, bundle = compared.config_path.resolve(), compared.bundle
    values = read_yaml(path)
    if not isinstance(values.get("roster"), str):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} holds the roster itself, among a person's own lines.",
            remedy=f"Write `roster: {ROSTER}` there instead, and join again.",
        )
    text = _with_address(path, bundle.coordinator)
    signing_key = (
        []
        if bundle.signing_key is None
        else [(signing_key_file(compared.config), f"{bundle.signing_key}\n".encode())]
    )
    for target, content in (
        (compared.config.coordinator.root_certificate, bundle.ca.encode()),
        *signing_key,
        (path.parent / values["roster"], roster_text(bundle.roster)),
        (path, text.encode()),
    ):
        try:
            durable_files.write(target, content)
        except OSError as error:
            raise WardroundError(
                Code.CONFIGURATION,
                f"{target} cannot be written: {error.strerror}.",
                remedy="Check free space and the permissions, and join again.",
            ) from None
    return SiteConfig.load(path)


def _with_address(path: Path, address: str) -> str:
    """Returns the text of site.yaml with another coordinator address, comments included."""
    text = path.read_text(encoding="utf-8")
    block = re.search(r"^coordinator:[ \t]*(#.*)?\n((?:[ \t]+.*\n|[ \t]*#.*\n|\n)*)", text, re.M)
    address_line = r'^([ \t]+address:[ \t]*)("[^"\n]*"|[^\s#]+)'
    line = re.search(address_line, block.group(0), re.M) if block else None
    if block is None or line is None:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} has no line for coordinator.address that could be changed by machine.",
            remedy=f"Write `address: {address}` under `coordinator:` and join again.",
        )
    changed = block.group(0)[: line.start()] + line.group(1) + json.dumps(address)
    changed += block.group(0)[line.end() :]
    candidate = text[: block.start()] + changed + text[block.end() :]
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".yaml") as trial:
        trial.write(candidate)
        trial.flush()
        SiteConfig.load(Path(trial.name))
    return candidate
