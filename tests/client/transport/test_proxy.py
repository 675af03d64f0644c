"""Through a hospital's proxy: what stands in its way is named with a remedy, and goes on when it is
mended."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.config.proxy_settings import ProxySettings
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from client.transport.node_key import load_node_key, public_pem
from client.transport.proxy import Proxy, proxy_of
from client.transport.route import Route
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.wire.messages import Frame
from server.enrolment.certificates import Pki
from tests.client.transport.connect_proxy import ConnectProxy
from tests.narrowing import present
from tests.server.transport.live_superlink import Door, open_door
from tests.waiting import HUNG, NEVER

COORDINATOR = Address("coordinator.example.org", 9092)
PASSWORD = "pass:wörd %"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path, grace=NEVER) as opened:
        opened.register("north")
        yield opened


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with ConnectProxy() as opened:
        yield opened


def site(door: Door, way: Proxy, address: str = "") -> FleetConnection:
    config = FleetConfig(
        address or door.link.address, door.pki.ca_certificate, door.key("north"), proxy=way
    )
    return FleetConnection(config)


def way(proxy: ConnectProxy, user: str | None = None, password_file: Path | None = None) -> Proxy:
    return Proxy(Address("127.0.0.1", proxy.port), user, password_file=password_file)


def refused(door: Door, through: Proxy) -> WardroundError:
    with site(door, through) as connection, pytest.raises(WardroundError) as caught:
        connection.connect()
    assert caught.value.remedy
    return caught.value


def test_a_site_answers_through_a_proxy_with_a_login_also_after_a_cut(
    door: Door, proxy: ConnectProxy, tmp_path: Path
) -> None:
    """The proxy alone knows the coordinator's name: the site looks up no name but the proxy's."""
    proxy.login, proxy.names = f"site:{PASSWORD}", {"localhost": "127.0.0.1"}
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    port = door.link.address.rpartition(":")[2]
    body = [os.urandom(3 << 20)]
    with site(door, way(proxy, "site", secret), f"localhost:{port}") as connection:
        connection.connect()
        sizes: list[int] = []

        def ask() -> None:
            for _, frame in door.link.ask({"north": Frame(b"{}")}, NEVER):
                sizes.append(sum(len(part) for part in present(frame).body))

        asking = threading.Thread(target=ask)
        asking.start()
        asked = present(connection.receive(HUNG))
        proxy.cut()
        assert connection.reply(asked, Frame(b"{}", body))
        asking.join(HUNG)
    assert sizes == [3 << 20]
    assert set(proxy.asked) == {f"CONNECT localhost:{port} HTTP/1.1"}


def test_a_proxy_that_asks_for_a_login_is_named_and_used_once_it_has_one(
    door: Door, proxy: ConnectProxy, tmp_path: Path
) -> None:
    proxy.login = f"site:{PASSWORD}"
    error = refused(door, way(proxy))
    assert error.code is Code.UNREACHABLE
    assert error.message == f"The proxy at 127.0.0.1:{proxy.port} asks for a login."
    assert error.remedy == "Set proxy.user and proxy.password_file in site.yaml."
    secret = tmp_path / "password"
    secret.write_text("wrong")
    secret.chmod(0o600)
    with site(door, way(proxy, "site", secret)) as connection:
        with pytest.raises(WardroundError, match="does not accept the login") as caught:
            connection.connect()
        assert "wrong" not in f"{caught.value.message}{caught.value.remedy}"
        secret.write_text(PASSWORD)
        connection.connect()
        assert connection.connected


def test_a_login_of_another_kind_is_told_by_name(door: Door, proxy: ConnectProxy) -> None:
    proxy.login, proxy.schemes = "site:x", ("NTLM", "Negotiate")
    error = refused(door, way(proxy))
    assert "asks for a login by Negotiate, Ntlm" in error.message
    assert "Basic only" in error.remedy


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (
            b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n",
            "does not connect to {target} (HTTP status 403)",
        ),
        (b"HTTP/1.1 504 Timeout\r\n\r\n", "does not connect to {target} (HTTP status 504)"),
        (b"", "hung up"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000, "answers without end"),
    ],
)
def test_what_a_proxy_refuses_is_named_and_mended_later(
    door: Door, proxy: ConnectProxy, answer: bytes, problem: str
) -> None:
    proxy.answer = answer
    with site(door, way(proxy)) as connection:
        with pytest.raises(WardroundError) as caught:
            connection.connect()
        assert caught.value.code is Code.UNREACHABLE
        told = problem.format(target=door.link.address)
        assert caught.value.message == f"The proxy at 127.0.0.1:{proxy.port} {told}."
        assert caught.value.remedy
        proxy.answer = None
        connection.connect()


def test_a_proxy_that_is_not_there_is_named(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = refused(door, Proxy(Address("127.0.0.1", port)))
    assert f"The proxy at 127.0.0.1:{port} cannot be reached" in error.message
    error = refused(door, Proxy(Address("proxy.invalid", 3128)))
    assert error.message == "The proxy's name proxy.invalid is not known here."


def test_a_proxy_on_ipv6_is_reached(door: Door) -> None:
    with ConnectProxy("::1") as proxy:
        with site(door, Proxy(Address("::1", proxy.port))) as connection:
            connection.connect()
        assert proxy.connected


def test_a_password_that_others_can_read_is_not_sent(
    door: Door, proxy: ConnectProxy, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    error = refused(door, way(proxy, "site", secret))
    assert error.code is Code.CREDENTIALS
    assert not proxy.asked


def test_no_login_is_ever_shown() -> None:
    environment = {"HTTPS_PROXY": "http://site:secret%20word@proxy.example.org:3128"}
    found = present(proxy_of(None, COORDINATOR, environment))
    assert (found.user, found.password) == ("site", "secret word")
    assert "secret" not in f"{found!r} {found.unreachable(OSError())!r}"
    for wrong in ("https://a:secret@b:1", "socks5://a:secret@b:1", "http://a:secret@b:port"):
        with pytest.raises(WardroundError) as caught:
            proxy_of(None, COORDINATOR, {"HTTPS_PROXY": wrong})
        assert caught.value.code is Code.CONFIGURATION
        assert "secret" not in f"{caught.value.message}{caught.value.remedy}"


@pytest.mark.parametrize(
    ("no_proxy", "host", "bypassed"),
    [
        ("", "coordinator.example.org", False),
        ("*", "coordinator.example.org", True),
        ("example.org", "coordinator.example.org", True),
        (".example.org", "coordinator.example.org", True),
        ("*.example.org", "coordinator.example.org", True),
        ("EXAMPLE.ORG", "Coordinator.Example.Org.", True),
        ("ample.org", "coordinator.example.org", False),
        ("example.org:9092", "coordinator.example.org", True),
        ("example.org:443", "coordinator.example.org", False),
        ("a.test, example.org", "coordinator.example.org", True),
        ("a.test example.org", "coordinator.example.org", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3:9092", "10.1.2.3", True),
        ("1:2:3::/64", "1:2:3::4", True),
        ("fe80::/10,::1/128", "1:2:3::4", False),
        ("[1:2:3::4]", "1:2:3::4", True),
        ("[1:2:3::4]:9092", "1:2:3::4", True),
        ("1:2:3::4", "1:2:3:0::4", True),
        (",,/,[,:,*:", "coordinator.example.org", False),
        ("", "localhost", True),
        ("", "127.0.0.1", True),
        ("", "::1", True),
    ],
)
def test_no_proxy_names_hosts_and_networks(no_proxy: str, host: str, bypassed: bool) -> None:
    environment = {"https_proxy": "proxy.example.org:3128", "NO_PROXY": no_proxy}
    found = proxy_of(None, Address(host, 9092), environment)
    assert (found is None) is bypassed


def test_site_yaml_stands_above_the_environment() -> None:
    settings = ProxySettings(address="own.example.org:8080")
    environment = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    assert present(proxy_of(settings, COORDINATOR, environment)).address.host == "own.example.org"
    assert proxy_of(None, COORDINATOR, {}) is None


def test_a_name_is_looked_up_anew_and_every_address_is_tried(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first address answers no more, and later it has another one alone."""
    host, port = Address.parse(door.link.address)
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()[1]
    real, looked_up = socket.getaddrinfo, list[str]()
    addresses = [("127.0.0.1", nobody), (host, port)]

    def names(name: str, number: int, **options: object) -> list[object]:
        looked_up.append(name)
        return [found for each in addresses for found in real(*each, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", names)
    config = FleetConfig(f"localhost:{port}", door.pki.ca_certificate, door.key("north"))
    with FleetConnection(config) as connection:
        connection.connect()
        before = len(looked_up)
        del addresses[0]
        connection._lines[1]._connected()
        assert len(looked_up) > before
    assert set(looked_up) == {"localhost"}


def test_a_name_that_nobody_knows_is_told_so() -> None:
    with pytest.raises(WardroundError) as caught:
        Route.to("coordinator.invalid:9092").open(lambda _: None)
    assert caught.value.code is Code.UNREACHABLE
    assert caught.value.message == "The coordinator's name coordinator.invalid is not known here."
    assert "DNS" in caught.value.remedy


def test_a_coordinator_on_ipv6_is_reached_by_its_literal(tmp_path: Path) -> None:
    Pki(tmp_path / "pki").create("Test", ["::1"])
    with open_door(tmp_path, host="::1") as door:
        door.register("north")
        assert door.link.address.startswith("[::1]:")
        with door.connection("north") as connection:
            connection.connect()


def test_a_private_ca_is_trusted_by_choice_alone(tmp_path: Path, door: Door) -> None:
    """As where a proxy opens TLS: who holds the key of that CA poses as the coordinator."""
    other = Pki(tmp_path / "other" / "pki")
    other.create("Hospital", ["127.0.0.1"])
    with open_door(tmp_path / "other") as intercepting:
        intercepting.link.register("north", public_pem(load_node_key(door.key("north"))))
        plain = FleetConfig(intercepting.link.address, door.pki.ca_certificate, door.key("north"))
        with FleetConnection(plain) as connection, pytest.raises(WardroundError) as caught:
            connection.connect()
        assert caught.value.code is Code.TLS
        assert "A proxy that opens TLS" in caught.value.remedy
        with FleetConnection(replace(plain, private_ca=other.ca_certificate)) as connection:
            connection.connect()
    with FleetConnection(replace(plain, address=door.link.address)) as connection:
        connection.connect()
