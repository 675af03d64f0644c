"""TLS: only senders with a certificate of the CA come in; a silent one delays nobody."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.client.data.dicom.running_receiver import Process, site
from tests.waiting import HUNG


def certificates(folder: Path, name: str) -> dict[str, Path]:
    """A CA and one certificate of it: paths of ca, certificate, key."""
    ca_key = rsa.generate_private_key(65537, 2048)
    key = rsa.generate_private_key(65537, 2048)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA")])
    ca = _signed(ca_name, ca_name, ca_key, ca_key, authority=True)
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = _signed(own, ca_name, key, ca_key, authority=False)
    files = {
        "ca": ca.public_bytes(serialization.Encoding.PEM),
        "certificate": certificate.public_bytes(serialization.Encoding.PEM),
        "key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    paths = {}
    for kind, content in files.items():
        paths[kind] = folder / f"{name}-{kind}.pem"
        paths[kind].write_bytes(content)
        paths[kind].chmod(0o600)
    return paths


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPrivateKey,
    by: rsa.RSAPrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(by, hashes.SHA256())
    )


def agreed(port: int, of: dict[str, Path], suites: str) -> str | None:
    """The version on which a TLS 1.2 client with these suites gets in, None if it does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suites)
    context.load_cert_chain(of["certificate"], of["key"])
    with socket.create_connection(("127.0.0.1", port), HUNG) as plain:
        try:
            with context.wrap_socket(plain) as line:
                return line.version()
        except ssl.SSLError:
            return None


def test_only_senders_of_the_ca_come_in(tmp_path: Path, dcmtk: dict[str, Path]) -> None:
    ours, pacs = certificates(tmp_path, "site"), certificates(tmp_path, "pacs")
    stranger = certificates(tmp_path, "stranger")
    tls = {
        "certificate": str(ours["certificate"]),
        "key": str(ours["key"]),
        "clients": str(pacs["ca"]),
    }
    with Process(site(tmp_path / "alpha", tls=tls)) as process:
        silent = socket.create_connection(("127.0.0.1", process.port))

        def echo(*options: str) -> int:
            command = [str(dcmtk["echoscu"]), "-to", "10", "-aec", "WARDROUND", *options]
            done = subprocess.run(
                [*command, "127.0.0.1", str(process.port)], capture_output=True, timeout=HUNG
            )
            return done.returncode

        def with_key(of: dict[str, Path]) -> tuple[str, ...]:
            shown = ("+tls", str(of["key"]), str(of["certificate"]))
            return (*shown, "+cf", str(ours["ca"]))

        assert echo(*with_key(pacs)) == 0
        assert echo(*with_key(stranger)) != 0
        assert echo("+tla", "+cf", str(ours["ca"])) != 0
        assert echo("-ta", "3", "-td", "3") != 0
        assert agreed(process.port, pacs, "ECDHE-RSA-AES128-GCM-SHA256") == "TLSv1.2"
        assert agreed(process.port, pacs, "ECDHE-RSA-AES128-SHA256") is None
        assert agreed(process.port, pacs, "AES128-GCM-SHA256") is None
        assert echo(*with_key(pacs)) == 0
        silent.close()
        before = len(process.events())
        for _ in range(8):  # probes, as `wardround-site check` makes one
            socket.create_connection(("127.0.0.1", process.port)).close()
        assert echo(*with_key(pacs)) == 0
        assert [e["event"] for e in process.events()[before:]] == ["association"]
        assert process.stop() == 0
        assert process.event("stopped")["rejected"] >= 2
