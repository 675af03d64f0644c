"""The coordinator's certificates: one CA that the sites trust, one server certificate under it.

A site gets the CA certificate by a way that its operator trusts (it is what the TLS connection
stands on) and pins it; no public CA can stand in for the coordinator. Keys are ECDSA P-256 (FIPS
186-5), files 0600; certificates follow RFC 5280 with the host names in subjectAltName (RFC 9525).
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret
from protocol.wire.enrolment import expiry

CA_DAYS = 3650
SERVER_DAYS = 397
"""Days a server certificate is good for; some TLS stacks refuse longer ones."""
_RENEW = "Create or renew the coordinator's certificates."
_SKEW = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class Pki:
    """The files of a coordinator's PKI, in one folder."""

    folder: Path

    @property
    def ca_certificate(self) -> Path:
        """What every site gets."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Needed for renewals only; may be kept off the machine in between."""
        return self.folder / "ca.key"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.crt"

    @property
    def private_key(self) -> Path:
        return self.folder / "server.key"

    def create(self, organisation: str, hosts: Sequence[str]) -> None:
        """Makes the CA and the first server certificate for `hosts` (names or addresses).

        Raises WardroundError(STATE) when there is a CA already: sites trust it.
        """
        if self.ca_certificate.exists() or self.ca_key.exists():
            raise WardroundError(
                Code.STATE,
                f"{self.folder} holds a certificate authority already.",
                remedy="Renew the server certificate, or choose an empty folder.",
            )
        durable_files.make_folder(self.folder)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                x509.NameAttribute(NameOID.COMMON_NAME, "wardround certificate authority"),
            ]
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _certificate(name, name, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        _store(self.ca_key, key, self.ca_certificate, certificate)
        self.renew(hosts)

    def renew(self, hosts: Sequence[str] = (), days: int = SERVER_DAYS) -> None:
        """Issues a new server key and certificate; without `hosts`, for those of the old one.

        Sites need no new file. A running coordinator takes it up by SuperLink.renew_certificate.
        Raises WardroundError: TLS (a PKI file unreadable or unfit), CONFIGURATION (no host).
        """
        names = tuple(hosts) or self.hosts()
        if not names:
            raise WardroundError(
                Code.CONFIGURATION,
                "A server certificate needs at least one host name.",
                remedy="Give the names or addresses by which sites reach the coordinator.",
            )
        self._issue(names, self.private_key, self.certificate, days)

    def issue(self, hosts: Sequence[str], private_key: Path, certificate: Path) -> None:
        """Gives another server under this CA a key and a certificate for `hosts`, unless it has one
        for them that is good for a while yet. Raises WardroundError(TLS)."""
        if certificate.exists() and private_key.exists():
            present = _read(certificate)
            if _names(present) == tuple(hosts) and not expiry(_days_left(present)):
                return
        self._issue(hosts, private_key, certificate, SERVER_DAYS)

    def _issue(self, names: Sequence[str], key_path: Path, path: Path, days: int) -> None:
        pem = read_key(self.ca_key)
        try:
            loaded = serialization.load_pem_private_key(pem, None)
            authority = x509.load_pem_x509_certificate(self.ca_certificate.read_bytes())
        except (OSError, ValueError, TypeError):
            raise _unreadable(self.folder) from None
        ca_key = cast("ec.EllipticCurvePrivateKey", loaded)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        server_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        certificate = (
            _certificate(subject, authority.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(server_auth, critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_host(name) for name in names]), critical=False
            )
            .add_extension(issuer_key, critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        _store(key_path, key, path, certificate)

    def hosts(self) -> tuple[str, ...]:
        """The names in the current server certificate. Raises WardroundError(TLS)."""
        return _names(_read(self.certificate))

    def days_left(self) -> float:
        """Days until the server certificate runs out. Raises WardroundError(TLS)."""
        return _days_left(_read(self.certificate))

    def warning(self) -> str:
        """What to say of the certificate before it runs out; empty where there is time. Raises
        WardroundError(TLS)."""
        return expiry(self.days_left())


def read_key(path: Path) -> bytes:
    """A private key in PEM. Raises WardroundError(TLS) where `read_secret` does."""
    return read_secret(
        path,
        "private key",
        Code.TLS,
        remedy=_RENEW,
        exposed="renew it if others may have read it",
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    start = datetime.datetime.now(datetime.UTC) - _SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise _unreadable(path) from None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return tuple(str(name.value) for name in extension.value)


def _days_left(certificate: x509.Certificate) -> float:
    end = certificate.not_valid_after_utc
    return (end - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400


def _store(
    key_path: Path, key: ec.EllipticCurvePrivateKey, path: Path, certificate: x509.Certificate
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    durable_files.write(key_path, pem)
    content = certificate.public_bytes(serialization.Encoding.PEM)
    durable_files.write(path, content, mode=durable_files.PUBLIC)


def _unreadable(path: Path) -> WardroundError:
    return WardroundError(
        Code.TLS,
        f"{path} is missing, unreadable or not what it should be.",
        remedy=_RENEW,
    )
