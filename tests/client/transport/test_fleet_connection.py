import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from flwr.app import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore import date
from flwr.supercore.constant import FLWR_PACKAGE_VERSION_METADATA_KEY

from client.transport import fleet_connection
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection, IncomingMessage
from client.transport.node_key import create_node_key, load_node_key, public_pem
from protocol.errors import Code, WardroundError
from protocol.wire.flower_encoding import MESSAGE_TYPE, WireBody, pack
from protocol.wire.messages import Frame
from server.enrolment.certificates import Pki
from server.transport import authentication
from server.transport.superlink import SuperLink, SuperLinkConfig
from tests.narrowing import present
from tests.waiting import HUNG, NEVER, until

MB = 1 << 20
Answers = list[tuple[str, Frame | None]]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.create("Test", ["localhost", "127.0.0.1"])
    return made


def coordinator(pki: Pki, port: int = 0, grace: float = SuperLinkConfig.grace) -> SuperLink:
    return SuperLink(
        SuperLinkConfig(pki.certificate, pki.private_key, port=port, hold=NEVER, grace=grace)
    )


@pytest.fixture
def link(pki: Pki) -> Iterator[SuperLink]:
    with coordinator(pki) as started:
        yield started


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "node.key"
    create_node_key(path)
    return path


def config(address: str, pki: Pki, key: Path) -> FleetConfig:
    return FleetConfig(address, pki.ca_certificate, key, connect_timeout=NEVER)


def public(key: Path) -> bytes:
    return public_pem(load_node_key(key))


def until_it_waits(link: SuperLink) -> None:
    """Until both calls of a site are held: for a question, and as its heartbeat."""
    until(lambda: 2 in link._gateway._held.values(), "the site waits")


def fault(connection: FleetConnection) -> WardroundError:
    """What `connect` raises; the same must be in `last_error`."""
    with pytest.raises(WardroundError) as caught:
        connection.connect()
    assert connection.last_error is caught.value
    assert not connection.connected
    return caught.value


def test_a_site_receives_and_answers(link: SuperLink, pki: Pki, key: Path) -> None:
    link.register("north", public(key))
    body = [bytes([n]) * MB for n in range(3)]
    results: Answers = []
    with FleetConnection(config(link.address, pki, key)) as site:
        site.connect()
        assert site.connected
        assert link.online() == {"north"}
        asking = threading.Thread(
            target=lambda: results.extend(link.ask({"north": Frame(b'{"q": 1}', body)}, NEVER))
        )
        asking.start()
        delivery = present(site.receive(HUNG))
        assert delivery.frame.header == b'{"q": 1}'
        assert b"".join(delivery.frame.body) == b"".join(body)
        assert 0 < delivery.seconds_left <= NEVER + 60
        assert site.reply(delivery, Frame(b'{"a": 2}', [b"x" * 10])) is True
        asking.join()
    [(name, frame)] = results
    assert name == "north"
    assert present(frame).header == b'{"a": 2}'
    assert list(present(frame).body) == [b"x" * 10]
    until(lambda: not link.online(), "the site has left")


def test_a_question_in_hand_holds_up_no_other_and_is_not_asked_again(
    link: SuperLink, pki: Pki, key: Path
) -> None:
    """However many others are answered meanwhile, and while another answer is being sent."""
    link.register("north", public(key))
    others = 20
    results: dict[bytes, Answers] = {}
    threads: list[threading.Thread] = []

    def ask(question: bytes) -> None:
        answers = results.setdefault(question, [])

        def wait_for_answers() -> None:
            answers.extend(link.ask({"north": Frame(question)}, NEVER))

        threads.append(threading.Thread(target=wait_for_answers))
        threads[-1].start()

    with FleetConnection(config(link.address, pki, key)) as site:
        site.connect()
        ask(b'{"q": "long"}')
        long = present(site.receive(HUNG))
        for number in range(others):
            ask(b'{"q": %d}' % number)
            quick = present(site.receive(HUNG))
            assert quick.frame.header == b'{"q": %d}' % number
            if number < others - 1:
                assert site.reply(quick, Frame(b'{"a": %d}' % number))
        last = threading.Thread(target=site.reply, args=(quick, Frame(b"{}", [b"x" * MB])))
        last.start()
        assert site.reply(long, Frame(b'{"a": "long"}', [b"y" * MB]))
        for thread in (last, *threads):
            thread.join(HUNG)
    assert [present(frame).header for _, frame in results[b'{"q": "long"}']] == [b'{"a": "long"}']
    assert all(len(answers) == 1 for answers in results.values())


def test_a_coordinator_under_another_ca_is_refused(
    link: SuperLink, key: Path, tmp_path: Path
) -> None:
    other = Pki(tmp_path / "other")
    other.create("Other", ["localhost"])
    error = fault(FleetConnection(config(link.address, other, key)))
    assert error.code is Code.TLS
    assert "CA certificate" in error.remedy


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, key: Path) -> None:
    elsewhere = Pki(tmp_path / "elsewhere")
    elsewhere.create("Test", ["coordinator.example"])
    with coordinator(elsewhere) as started:
        assert fault(FleetConnection(config(started.address, elsewhere, key))).code is Code.TLS


def test_a_service_that_is_not_tls_is_told_apart(pki: Pki, key: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def greet() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4096)
                    peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=greet, daemon=True).start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert fault(FleetConnection(config(address, pki, key))).code is Code.TLS
        listening.shutdown(socket.SHUT_RDWR)


def test_an_unregistered_key_is_told_apart(link: SuperLink, pki: Pki, key: Path) -> None:
    error = fault(FleetConnection(config(link.address, pki, key)))
    assert error.code is Code.NODE_KEY
    assert "registered" in error.remedy


def test_a_coordinator_that_is_not_there_is_unreachable(pki: Pki, key: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    error = fault(FleetConnection(config(address, pki, key)))
    assert error.code is Code.UNREACHABLE
    assert address in error.message


def test_a_clock_that_is_off_is_told_apart(link: SuperLink, pki: Pki, key: Path) -> None:
    link.register("north", public(key))
    command = [
        sys.executable,
        "-c",
        "import sys, datetime, client.transport.fleet_calls\n"
        "from pathlib import Path\n"
        "from client.transport.fleet_config import FleetConfig\n"
        "from client.transport.fleet_connection import FleetConnection, WardroundError\n"
        "class Late(datetime.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None):\n"
        "        return datetime.datetime.now(tz) - datetime.timedelta(seconds=400)\n"
        "client.transport.fleet_calls.datetime = Late\n"
        "try:\n"
        "    FleetConnection(FleetConfig(\n"
        "        sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))).connect()\n"
        "except WardroundError as error:\n"
        "    print(error.code)\n",
        link.address,
        str(pki.ca_certificate),
        str(key),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "clock"


def test_another_flower_release_on_the_site_is_refused_by_name(
    link: SuperLink, pki: Pki, key: Path
) -> None:
    link.register("north", public(key))
    connection = FleetConnection(config(link.address, pki, key))
    connection._calls._version[FLWR_PACKAGE_VERSION_METADATA_KEY] = "1.40.0"
    assert fault(connection).code is Code.FLWR_VERSION


@pytest.mark.parametrize(
    "module", ["client.transport.fleet_connection", "server.transport.superlink"]
)
def test_another_installed_flower_is_refused_before_it_is_imported(
    tmp_path: Path, module: str
) -> None:
    info = tmp_path / "flwr-1.43.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flwr\nVersion: 1.43.0\n")
    script = (
        "import sys\n"
        "from protocol.errors import WardroundError\n"
        "try:\n"
        f"    import {module}\n"
        "except WardroundError as error:\n"
        "    print(error.code, '|', error, '|', 'flwr' in sys.modules)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    code, text, imported = (part.strip() for part in result.stdout.split("|"))
    assert (code, imported) == ("flwr_version", "False")
    assert "1.43.0" in text
    assert "flwr==1.42.0" in text


def test_a_second_process_with_the_same_key_is_told_so(
    link: SuperLink, pki: Pki, key: Path
) -> None:
    link.register("north", public(key))
    with FleetConnection(config(link.address, pki, key)) as first:
        first.connect()
        error = fault(FleetConnection(config(link.address, pki, key)))
        assert error.code is Code.UNREACHABLE
        assert "another process" in error.remedy


def test_a_site_comes_back_when_its_coordinator_does(pki: Pki, key: Path) -> None:
    first = coordinator(pki).start()
    first.register("north", public(key))
    port = int(first.address.rpartition(":")[2])
    with FleetConnection(config(first.address, pki, key)) as site:
        site.connect()
        first.stop()
        assert site.receive(0) is None
        assert present(site.last_error).code is Code.UNREACHABLE
        with coordinator(pki, port) as second:
            second.register("north", public(key))
            results: Answers = []

            def ask() -> None:
                until(second.online, "the site is back")
                results.extend(second.ask({"north": Frame(b"{}")}, NEVER))

            asking = threading.Thread(target=ask)
            asking.start()
            delivery = present(site.receive(HUNG))
            assert site.connected
            site.reply(delivery, Frame(b'{"back": 1}'))
            asking.join()
            assert present(results[0][1]).header == b'{"back": 1}'


def test_an_answer_to_a_coordinator_started_again_since_is_no_longer_wanted(
    pki: Pki, key: Path
) -> None:
    """It must not be sent until its time is over: the study's next questions wait behind it."""
    first = coordinator(pki).start()
    first.register("north", public(key))
    port = int(first.address.rpartition(":")[2])
    with FleetConnection(config(first.address, pki, key)) as site:
        site.connect()
        asking = threading.Thread(target=lambda: list(first.ask({"north": Frame(b"{}")}, NEVER)))
        asking.start()
        delivery = present(site.receive(HUNG))
        first.stop()
        asking.join()
        with coordinator(pki, port) as second:
            second.register("north", public(key))
            until(lambda: site.receive(0) is None and second.online(), "the site is back")
            assert delivery.seconds_left > HUNG
            assert site.reply(delivery, Frame(b'{"ready": 1}', [b"z" * (2 * MB)])) is False


@pytest.mark.parametrize("receives", [True, False], ids=["as it waits", "with no room for more"])
def test_an_answer_waits_for_a_clock_that_is_set_right(
    pki: Pki, key: Path, monkeypatch: pytest.MonkeyPatch, *, receives: bool
) -> None:
    """The coordinator waits for it as long as the site may compute."""
    results: Answers = []
    with (
        coordinator(pki, grace=NEVER) as link,
        FleetConnection(config(link.address, pki, key)) as site,
    ):
        link.register("north", public(key))
        asking = threading.Thread(
            target=lambda: results.extend(link.ask({"north": Frame(b"{}")}, NEVER))
        )
        site.connect()
        asking.start()
        delivery = present(site.receive(HUNG))
        right, refused = date.now, threading.Event()

        def ahead() -> datetime:
            refused.set()
            return right() + timedelta(days=1)

        monkeypatch.setattr(authentication, "now", ahead)
        if receives:
            until(lambda: site.receive(0) is None and not site.connected, "it is refused")
        answering = threading.Thread(target=lambda: site.reply(delivery, Frame(b'{"a": 2}')))
        answering.start()
        assert refused.wait(HUNG)
        monkeypatch.undo()
        asking.join(HUNG)
        answering.join(HUNG)
    assert [present(frame).header for _, frame in results] == [b'{"a": 2}']


def received(site: FleetConnection, heard: Callable[[], object]) -> IncomingMessage | None:
    """What a site receives that is closed as soon as something has been heard of it."""
    got: list[IncomingMessage | None] = []
    receiving = threading.Thread(target=lambda: got.append(site.receive(NEVER)))
    receiving.start()
    heard()
    site.close()
    receiving.join()
    return got[0]


def test_close_ends_a_call_that_is_held(
    link: SuperLink, pki: Pki, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_connection, "_HOLD", NEVER)
    link.register("north", public(key))
    with FleetConnection(config(link.address, pki, key)) as site:
        assert received(site, lambda: until_it_waits(link)) is None


def test_an_answer_is_still_sent_after_close(link: SuperLink, pki: Pki, key: Path) -> None:
    """SIGTERM came while the site was computing what it has debited already."""
    link.register("north", public(key))
    results: Answers = []
    with FleetConnection(config(link.address, pki, key)) as site:
        site.connect()
        asking = threading.Thread(
            target=lambda: results.extend(link.ask({"north": Frame(b"{}")}, NEVER))
        )
        asking.start()
        delivery = present(site.receive(HUNG))
        site.close()
        assert site.reply(delivery, Frame(b'{"late": 1}', [b"z" * (5 * MB)])) is True
        asking.join()
        assert site.receive(NEVER) is None
    assert present(results[0][1]).header == b'{"late": 1}'


def test_an_address_without_a_port_is_refused(pki: Pki, key: Path) -> None:
    for address in ("localhost", "localhost:", ":9092", "localhost:http", "localhost:70000"):
        with pytest.raises(WardroundError) as caught:
            FleetConnection(config(address, pki, key))
        assert caught.value.code is Code.CONFIGURATION
        assert address in caught.value.message


def test_close_ends_an_attempt_to_connect(pki: Pki, key: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()  # accepts, and never says a word of TLS
        site = FleetConnection(config(f"127.0.0.1:{mute.getsockname()[1]}", pki, key))
        heard: list[object] = []
        assert received(site, lambda: heard.append(mute.accept())) is None


def test_sigterm_ends_a_waiting_process(
    link: SuperLink, pki: Pki, key: Path, tmp_path: Path
) -> None:
    link.register("north", public(key))
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from client.transport import fleet_connection\n"
        "from client.transport.fleet_config import FleetConfig\n"
        "from client.transport.fleet_connection import FleetConnection\n"
        "fleet_connection._HOLD = 1e6\n"
        "with FleetConnection(FleetConfig(\n"
        "        sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))) as site:\n"
        "    signal.signal(signal.SIGTERM, lambda *_: site.close())\n"
        "    site.receive(1e6)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, link.address, str(pki.ca_certificate), str(key)]
    )
    until_it_waits(link)
    process.send_signal(signal.SIGTERM)
    assert process.wait(HUNG) == 0
    until(lambda: not link.online(), "the site has left")


def test_a_site_that_waits_uses_hardly_any_processor(link: SuperLink, pki: Pki, key: Path) -> None:
    link.register("north", public(key))
    with FleetConnection(config(link.address, pki, key)) as site:
        site.connect()
        before = time.thread_time()  # of this thread, while it computes
        assert site.receive(2) is None
        assert time.thread_time() - before < 0.5


def test_the_site_daemon_imports_neither_ray_nor_torch() -> None:
    script = (
        "import sys, client.transport.fleet_connection\n"
        "print([m for m in ('ray', 'torch') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


def test_a_stock_superlink_is_spoken_to_without_being_held(
    pki: Pki, key: Path, tmp_path: Path
) -> None:
    """Against Flower's own SuperLink: objects one by one, and polling."""
    script = Path(__file__).parents[2] / "server" / "transport" / "stock_superlink.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(pki.folder), str(tmp_path / "public.pem")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    (tmp_path / "public.pem").write_bytes(public(key))
    try:
        told, said = present(process.stdin), present(process.stdout)
        told.write("go\n")
        told.flush()
        port = int(said.readline())
        with FleetConnection(config(f"127.0.0.1:{port}", pki, key)) as site:
            delivery = site.receive(HUNG)
            assert delivery is not None, site.last_error
            assert delivery.frame.header == b'{"from": "stock"}'
            assert b"".join(delivery.frame.body) == b"\x07" * (3 * MB)
            assert site.reply(delivery, Frame(b'{"to": "stock"}', [b"\x05" * (3 * MB)])) is True
            answer = json.loads(said.readline())
        assert answer == {"header": '{"to": "stock"}', "size": 3 * MB, "first": 5}
    finally:
        process.kill()
        process.wait()


def test_node_keys_are_private_and_of_flowers_kind(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "node.key"
    pem = create_node_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    made = load_pem_public_key(pem)
    assert isinstance(made, ec.EllipticCurvePublicKey)
    assert made.curve.name == "secp384r1"
    assert public_pem(load_node_key(path)) == pem
    with pytest.raises(WardroundError) as caught:
        create_node_key(path)
    assert caught.value.code is Code.NODE_KEY
    openssh = tmp_path / "openssh.key"
    openssh.write_bytes(
        load_node_key(path).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    openssh.chmod(0o600)
    assert public_pem(load_node_key(openssh)) == pem


def test_an_unfit_node_key_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    create_node_key(path)
    path.chmod(0o640)
    with pytest.raises(WardroundError, match="open to other users"):
        load_node_key(path)
    path.chmod(0o600)
    path.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    with pytest.raises(WardroundError, match="ECDSA"):
        load_node_key(path)
    path.write_text("nonsense")
    with pytest.raises(WardroundError, match="private key"):
        load_node_key(path)
    with pytest.raises(WardroundError, match="cannot be read"):
        load_node_key(tmp_path / "missing")


def test_an_unreadable_ca_certificate_is_named(tmp_path: Path, key: Path) -> None:
    with pytest.raises(WardroundError) as caught:
        FleetConnection(FleetConfig("localhost:1", tmp_path / "missing.crt", key))
    assert caught.value.code is Code.TLS
    assert "missing.crt" in caught.value.message


def test_the_site_trusts_only_its_own_ca(pki: Pki, key: Path) -> None:
    context = FleetConnection(config("localhost:1", pki, key))._calls._context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


def test_a_packed_message_keeps_its_body_out_of_line() -> None:
    def metadata() -> Metadata:
        return Metadata(1, "", SUPERLINK_NODE_ID, 2, "", "", time.time(), 60.0, MESSAGE_TYPE)

    small = pack(metadata(), b"{}", WireBody.cut([b"abc"]))
    assert (len(small.objects), len(small.chunks)) == (3, 0)
    large = pack(metadata(), b"{}", WireBody.cut([b"a" * MB, b"b" * MB, b"c" * MB]))
    assert len(large.chunks) == 2
    assert sum(len(content) for content in large.objects.values()) < 4096
