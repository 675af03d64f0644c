import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection, socket

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocol.errors import Code, WardroundError
from server.enrolment.certificates import Pki, read_key


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.create("Example Hospital Group", ["localhost", "127.0.0.1"])
    return made


@contextmanager
def served(pki: Pki) -> Iterator[int]:
    """A TLS server with the PKI's server certificate; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate, pki.private_key)
    with socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def accept() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                    with context.wrap_socket(peer, server_side=True) as secure:
                        secure.recv(1)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]


def connect(port: int, ca: Path, name: str) -> None:
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with create_connection(("127.0.0.1", port)) as plain:
        context.wrap_socket(plain, server_hostname=name).close()


def test_the_certificate_stands_for_its_hosts_and_no_others(pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    other.create("Another", ["localhost"])
    with served(pki) as port:
        connect(port, pki.ca_certificate, "localhost")
        connect(port, pki.ca_certificate, "127.0.0.1")
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(port, pki.ca_certificate, "coordinator.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(port, other.ca_certificate, "localhost")


def test_keys_are_private_and_certificates_are_not(pki: Pki) -> None:
    for path in (pki.ca_key, pki.private_key):
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"PRIVATE KEY" in path.read_bytes()
    for path in (pki.ca_certificate, pki.certificate):
        assert path.stat().st_mode & 0o777 == 0o644
        assert b"PRIVATE" not in path.read_bytes()
    assert {path.name for path in pki.folder.iterdir()} == {
        "ca.crt", "ca.key", "server.crt", "server.key",
    }  # fmt: skip


def test_a_renewal_has_a_new_key_the_same_hosts_and_needs_no_new_ca(pki: Pki) -> None:
    ca, certificate = pki.ca_certificate.read_bytes(), pki.certificate.read_bytes()
    key = pki.private_key.read_bytes()
    pki.renew()
    assert pki.ca_certificate.read_bytes() == ca
    assert pki.certificate.read_bytes() != certificate
    assert pki.private_key.read_bytes() != key
    assert pki.hosts() == ("localhost", "127.0.0.1")
    with served(pki) as port:
        connect(port, pki.ca_certificate, "localhost")
    pki.renew(["coordinator.example", "::1"], days=30)
    assert pki.hosts() == ("coordinator.example", "::1")
    assert 29 < pki.days_left() < 30


def test_the_authority_signs_servers_only_and_the_server_signs_nothing(pki: Pki) -> None:
    ca = x509.load_pem_x509_certificate(pki.ca_certificate.read_bytes())
    server = x509.load_pem_x509_certificate(pki.certificate.read_bytes())
    server.verify_directly_issued_by(ca)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, True)
    assert constraints.value.path_length == 0
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_an_authority_is_never_replaced(pki: Pki) -> None:
    before = pki.ca_certificate.read_bytes()
    with pytest.raises(WardroundError) as caught:
        pki.create("Again", ["localhost"])
    assert caught.value.code is Code.STATE
    assert pki.ca_certificate.read_bytes() == before


def test_unfit_files_are_named(pki: Pki, tmp_path: Path) -> None:
    pki.ca_key.chmod(0o644)
    with pytest.raises(WardroundError, match=r"ca\.key"):
        pki.renew()
    pki.ca_key.chmod(0o600)
    pki.ca_key.write_text("nonsense")
    with pytest.raises(WardroundError) as caught:
        pki.renew()
    assert caught.value.code is Code.TLS
    with pytest.raises(WardroundError, match=r"absent\.key"):
        read_key(tmp_path / "absent.key")
    with pytest.raises(WardroundError) as caught:
        Pki(tmp_path / "empty").create("Test", [])
    assert caught.value.code in (Code.CONFIGURATION, Code.TLS)


@pytest.mark.parametrize(("days", "said"), [(59, "expires in"), (0, "has expired"), (70, "")])
def test_the_end_is_told_of_two_months_before(tmp_path: Path, days: int, said: str) -> None:
    pki = Pki(tmp_path / "pki")
    pki.create("Anywhere", ["localhost"])
    pki.renew(days=days)
    assert said in pki.warning()
    assert bool(pki.warning()) == (said != "")
