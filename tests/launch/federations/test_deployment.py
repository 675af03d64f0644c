"""The data scientist's end: what is told when something is wrong, and how long it holds on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.demo.local_ports import free_port
from launch.federations.deployment import RemoteFederation
from protocol.errors import Code, WardroundError
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.enrolment.accounts import Accounts
from server.enrolment.certificates import Pki
from server.transport.superlink import SuperLink, SuperLinkConfig
from tests.client.transport.connect_proxy import ConnectProxy
from tests.server.hospitals import credentials, new_coordinator
from tests.waiting import HUNG

NAME = "coordinator.invalid"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    config = new_coordinator(tmp_path_factory.mktemp("remote") / "coordinator")
    with Coordinator(config, Journal(None, console=None)) as coordinator:
        yield coordinator


@pytest.fixture(scope="module")
def good(running: Coordinator) -> Path:
    return credentials(running.config, running.address, "alice")


def changed(good: Path, folder: Path, **fields: str) -> Path:
    path = folder / "changed.json"
    path.write_text(json.dumps(json.loads(good.read_text()) | fields))
    path.chmod(0o600)
    return path


def refusal(path: Path) -> WardroundError:
    with pytest.raises(WardroundError) as refused, RemoteFederation(path, timeout=HUNG) as remote:
        remote.federation()
    assert refused.value.remedy, "an error says what to do"
    assert json.loads(path.read_text())["token"] not in str(refused.value)
    return refused.value


def test_good_credentials_open_the_door(running: Coordinator, good: Path) -> None:
    with RemoteFederation(good) as remote:
        found = remote.federation()
        assert found["sites"] == {}
        assert found["tasks"]["breast_cancer"]["version"] == 1
        assert remote.studies() == []


def test_a_coordinator_of_another_ca_is_not_spoken_to(good: Path, tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    pki.create("Somebody else", ["127.0.0.1"])
    error = refusal(changed(good, tmp_path, ca=pki.ca_certificate.read_text()))
    assert (error.code, error.exit_status) == (Code.TLS, 4)


def test_a_certificate_for_another_name_is_not_accepted(
    running: Coordinator, good: Path, tmp_path: Path
) -> None:
    port = running.address.rpartition(":")[2]
    assert refusal(changed(good, tmp_path, coordinator=f"localhost:{port}")).code is Code.TLS


def test_a_wrong_token_is_told_from_a_wrong_address(good: Path, tmp_path: Path) -> None:
    error = refusal(changed(good, tmp_path, token="wardround_wrong"))
    assert error.code is Code.CREDENTIALS
    assert "account rotate alice" in error.remedy


def test_the_token_of_a_removed_account(running: Coordinator) -> None:
    path = credentials(running.config, running.address, "bob")
    Accounts(running.config.accounts).remove("bob")
    assert refusal(path).code is Code.CREDENTIALS


def test_nobody_listens(good: Path, tmp_path: Path) -> None:
    error = refusal(changed(good, tmp_path, coordinator=f"127.0.0.1:{free_port()}"))
    assert (error.code, error.exit_status) == (Code.UNREACHABLE, 4)


@pytest.mark.parametrize("ca", ["", "no certificate"])
def test_a_ca_that_is_none(good: Path, tmp_path: Path, ca: str) -> None:
    assert refusal(changed(good, tmp_path, ca=ca)).code is Code.TLS


def test_what_is_no_coordinator_is_named(running: Coordinator, good: Path, tmp_path: Path) -> None:
    pki = running.config.pki
    with SuperLink(SuperLinkConfig(pki.certificate, pki.private_key)) as other:
        error = refusal(changed(good, tmp_path, coordinator=other.address))
    assert error.code is Code.MESSAGE


def test_a_study_that_is_not_there(good: Path) -> None:
    with RemoteFederation(good) as remote:
        for ask in (remote.study, remote.cancel, remote.weights, lambda d: next(remote.events(d))):
            with pytest.raises(WardroundError) as refused:
                ask("0" * 64)
            assert refused.value.code is Code.USAGE


def test_patience_with_a_coordinator_that_is_away_ends(good: Path, tmp_path: Path) -> None:
    path = changed(good, tmp_path, coordinator=f"127.0.0.1:{free_port()}")
    with RemoteFederation(path, patience=1.0) as remote, pytest.raises(WardroundError) as refused:
        next(remote.events("0" * 64))
    assert refused.value.code is Code.UNREACHABLE


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectProxy]:
    with ConnectProxy() as opened:
        monkeypatch.setenv("HTTPS_PROXY", f"http://alice:word@127.0.0.1:{opened.port}")
        opened.login, opened.names = "alice:word", {NAME: "127.0.0.1"}
        yield opened


def test_a_proxy_of_the_environment_connects_through(
    proxy: ConnectProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy alone knows the name; the token passes through it unseen."""
    config = new_coordinator(tmp_path / "coordinator")
    config.pki.renew([NAME, "127.0.0.1"])
    with Coordinator(config, Journal(None, console=None)) as coordinator:
        good = credentials(config, coordinator.address, "alice")
        named = f"{NAME}:{coordinator.address.rpartition(':')[2]}"
        there = changed(good, tmp_path, coordinator=named)
        with RemoteFederation(there) as remote:
            assert remote.studies() == []
        assert proxy.asked == [f"CONNECT {named} HTTP/1.1"]
        proxy.login = "alice:another"
        error = refusal(there)
        assert (error.code, error.message) == (
            Code.UNREACHABLE,
            f"The proxy at 127.0.0.1:{proxy.port} does not connect to {named}.",
        )
        assert "word" not in f"{error.message}{error.remedy}"
        with RemoteFederation(good) as remote:  # loopback never goes through one
            assert remote.studies() == []
        monkeypatch.setenv("NO_PROXY", NAME)
        asked = len(proxy.asked)
        assert refusal(there).message.startswith(f"The coordinator {named} does not answer")
        assert len(proxy.asked) == asked
