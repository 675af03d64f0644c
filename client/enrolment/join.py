"""Joins a federation: takes over the coordinator's address, CA and roster, after a comparison.

A key that was confirmed once stays known, a reviewer's too: nobody leaves and returns under another
one unnoticed.

Fingerprints are compared by telephone, because whoever can swap a key on the way can impersonate a
hospital.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, StringConstraints, ValidationError

from client.config import site_roster as roster_file
from client.config.known_reviewers import known_reviewers, reviewers_file
from client.config.known_reviewers import text as reviewers_text
from client.config.site_config import INIT, SiteConfig
from client.config.site_decisions import decisions_file
from client.config.site_roster import SiteRoster, roster_text, signing_key_file
from client.enrolment.new_site import ROSTER
from protocol import durable_files
from protocol.document import Document, added_field
from protocol.errors import Code, WardroundError
from protocol.identity import fingerprint
from protocol.study.study import Digest, Name
from protocol.terminal.printable import printable
from protocol.untrusted import parsing
from protocol.wire.enrolment import refused_file
from protocol.wire.roster import EMPTY, RosterHistory, RosterNews, SignedChange
from protocol.yaml.documents import read_yaml

_MAX_BYTES = 1 << 20
Change = Literal["this site", "known", "new", "CHANGED"]


class FederationBundle(Document):
    """What a coordinator's operator hands to every site: address, CA (PEM) and roster, and the
    public half of the key that signs the coordinator's models and the history of its roster (0.1.0
    had neither); `reviewers`: the public keys of those who approve models."""

    coordinator: str
    ca: Annotated[str, StringConstraints(max_length=64 * 1024)]
    roster: Annotated[dict[Name, Digest], Field(min_length=1, max_length=1000)]
    signing_key: Digest | None = added_field(None)
    history: tuple[SignedChange, ...] = added_field((), strict=False)
    reviewers: dict[Name, Digest] = added_field({}, max_length=1000)

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
        return _authority(self.ca.encode(), "The bundle's `ca`")


@dataclass(frozen=True)
class BundleComparison:
    """What a bundle would change at this site. `sites`: name -> (fingerprint, change); `ca`: what
    becomes of the certificate authority; `signing_key`: as a site, of the key that signs models,
    None where the bundle has none; `leaving`: sites that the bundle lacks and nobody revoked;
    `history`: the coordinator's changes, checked; `reviewers`: as `sites`, of the keys by which
    models are approved."""

    config_path: Path
    config: SiteConfig
    bundle: FederationBundle
    ca: Change
    sites: dict[str, tuple[str, Change]]
    leaving: tuple[str, ...]
    history: RosterHistory
    signing_key: tuple[str, Change] | None
    reviewers: dict[str, tuple[str, Change]]

    def refuse_changed_keys(self) -> None:
        """Raises WardroundError(IDENTITY) where a key that this site knows would change: whoever
        can swap a bundle on its way could pass for that hospital."""
        changed = [
            printable(site) for site, (_, change) in self.sites.items() if change == "CHANGED"
        ]
        changed += [
            f"the reviewer {printable(name)}"
            for name, (_, change) in self.reviewers.items()
            if change == "CHANGED"
        ]
        if self.ca == "CHANGED":
            changed.append("the coordinator's certificate authority")
        if self.signing_key is not None and self.signing_key[1] == "CHANGED":
            changed.append("the signature of the coordinator's models")
        if changed:
            raise WardroundError(
                Code.IDENTITY,
                f"The bundle has another key for {', '.join(changed)}; --yes does not take it.",
                remedy="Nothing was changed. Call them and compare the fingerprints shown. Where "
                "they have a new key indeed, join without --yes, at a keyboard.",
            )
        if self.leaving:
            raise WardroundError(
                Code.IDENTITY,
                f"The bundle's roster has shrunk: it lacks {printable(', '.join(self.leaving))}, "
                "whose key nobody revoked; --yes does not take it.",
                remedy="Nothing was changed. Ask the coordinator's operator whether they left; "
                "then join without --yes, at a keyboard.",
            )


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

    known = SiteRoster(config).now()
    signs = None if bundle.signing_key is None else _signing_change(config, bundle.signing_key)
    history = _history(bundle, known.history if signs and signs[1] == "known" else EMPTY)

    def change(site: str, key: str) -> Change:
        if site == config.site:
            return "this site"
        if site not in known.confirmed:
            return "new"
        return "known" if key in history.heirs(site, known.confirmed[site]) else "CHANGED"

    sites = {
        site: (fingerprint(bytes.fromhex(key)), change(site, key))
        for site, key in sorted(bundle.roster.items())
    }
    leaving = tuple(
        site
        for site, key in sorted(known.confirmed.items())
        if site not in bundle.roster and not history.heirs(site, key) & history.revoked
    )
    ca = _authority_change(config.coordinator.root_certificate, bundle)
    reviewers = _reviewers(config, bundle.reviewers)
    return BundleComparison(
        config_path, config, bundle, ca, sites, leaving, history, signs, reviewers
    )


def _history(bundle: FederationBundle, known: RosterHistory) -> RosterHistory:
    """The bundle's history, on top of what is known. Raises WardroundError(IDENTITY) where it was
    rewritten or cut, or is not what the bundle's roster says."""
    if bundle.signing_key is None or not bundle.history:
        return known
    number, version = len(bundle.history), bundle.history[-1].digest
    news = RosterNews(number=number, version=version, changes=bundle.history[known.number :])
    history = news.added_to(known, bytes.fromhex(bundle.signing_key))
    if history.keys != bundle.roster:
        raise WardroundError(
            Code.IDENTITY,
            "The bundle's roster is not the one that its signed history gives.",
            remedy="Nothing was changed. Ask the coordinator's operator for the bundle again.",
        )
    return history


def _reviewers(config: SiteConfig, theirs: Mapping[str, str]) -> dict[str, tuple[str, Change]]:
    known = known_reviewers(config)
    found = dict[str, tuple[str, Change]]()
    for name, key in sorted(theirs.items()):
        shown = fingerprint(bytes.fromhex(key))
        same: Change = "known" if known.get(name) == key else "CHANGED"
        found[name] = (shown, same if name in known else "new")
    return found


def _signing_change(config: SiteConfig, key: str) -> tuple[str, Change]:
    try:
        known = signing_key_file(config).read_text().strip()
    except OSError:
        return fingerprint(bytes.fromhex(key)), "new"
    return fingerprint(bytes.fromhex(key)), "known" if known == key else "CHANGED"


def join(compared: BundleComparison) -> SiteConfig:
    """Writes CA, roster, signing key, reviewers' keys and the coordinator's address; the rest of
    site.yaml stays as it is. Under another signing key, what was known of decisions is forgotten:
    the coordinator tells all of them again.

    Raises WardroundError(CONFIGURATION) where site.yaml cannot be changed by machine.
    """
    path, bundle = compared.config_path.resolve(), compared.bundle
    values = read_yaml(path, INIT)
    if not isinstance(values.get("roster"), str):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} holds the roster itself, among a person's own lines.",
            remedy=f"Write `roster: {ROSTER}` there instead, and join again.",
        )
    text = _with_address(path, bundle.coordinator)
    reviewers = known_reviewers(compared.config) | bundle.reviewers
    signing_key = (
        []
        if bundle.signing_key is None
        else [(signing_key_file(compared.config), f"{bundle.signing_key}\n".encode())]
    )
    for target, content in (
        (compared.config.coordinator.root_certificate, bundle.ca.encode()),
        *signing_key,
        (reviewers_file(compared.config), reviewers_text(reviewers)),
        (path.parent / values["roster"], roster_text(compared.config.roster | bundle.roster)),
        (compared.config.state / roster_file.FILE, roster_file.text(compared.history)),
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
    if compared.signing_key is not None and compared.signing_key[1] == "CHANGED":
        decisions_file(compared.config).unlink(missing_ok=True)
    return SiteConfig.load(path)


def _authority_change(stored: Path, bundle: FederationBundle) -> Change:
    try:
        known = _authority(stored.read_bytes(), str(stored))
    except OSError:
        return "new"
    except WardroundError:
        return "CHANGED"
    return "known" if known == bundle.ca_fingerprint() else "CHANGED"


def _authority(pem: bytes, where: str) -> str:
    """The fingerprint of an authority's certificate. Raises WardroundError(TLS)."""
    again = "Ask the coordinator's operator for the bundle again."
    with parsing(f"{where} is no certificate of an authority.", Code.TLS, again):
        certificate = x509.load_pem_x509_certificate(pem)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        if not constraints.value.ca:
            raise ValueError
        return fingerprint(certificate.public_bytes(Encoding.DER))


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
