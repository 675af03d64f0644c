"""The daemon in daily life: real processes against a real coordinator over TLS."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flwr.supercore import date

from client.config.policy import Policy
from client.config.resource_limits import limit_memory
from client.config.site_config import SiteConfig
from client.daemon import status
from client.daemon.daemon import Daemon as Loop
from client.daemon.daemon import _answer
from client.daemon.watchdog import StatusReporter
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.audit_replay import AuditEvent
from client.transport.fleet_connection import IncomingMessage
from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.wire.messages import (
    Close,
    Collect,
    Frame,
    Prepare,
    Propose,
    Refusal,
    Standing,
    frame,
    parse,
)
from server.enrolment.certificates import Pki
from server.transport import authentication
from tasks import registry
from tests.client.daemon_federation import RULES, TASK, Wards, renamed
from tests.client.daemon_process import Daemon
from tests.narrowing import present
from tests.waiting import HUNG, NEVER, until


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wards]:
    made = Wards(tmp_path_factory.mktemp("wards"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def federation(wards: Wards) -> Iterator[dict[str, Daemon]]:
    """All four daemons, running."""
    daemons = {site: wards.daemon(site) for site in wards.sites}
    wards.until_online()
    yield daemons
    for daemon in daemons.values():
        daemon.stop()


@pytest.fixture(scope="module")
def template(wards: Wards) -> Study:
    return wards.study(rounds=20, spare=10)


def command(*arguments: str, **env: str) -> subprocess.Popen[str]:
    """The installed console script, as systemd starts it."""
    script = Path(sys.executable).with_name("wardround-site")
    return subprocess.Popen(
        [str(script), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )


def operate(wards: Wards, site: str, *arguments: str) -> int:
    """An operator's command beside the daemon."""
    done = command(*arguments, "--config", str(wards.folder / site))
    done.communicate(timeout=HUNG)
    return done.returncode


# --- its life ---
def test_systemd_hears_of_it_and_sigterm_ends_it(wards: Wards, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(HUNG)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        daemon = command("start", "--config", str(wards.folder / "west"), **env)
        heard = []
        while "READY=1" not in heard or "WATCHDOG=1" not in heard:
            heard.append(manager.recv(200).decode())
        assert status.running(wards.config("west").state)
        daemon.send_signal(signal.SIGTERM)
        _, err = daemon.communicate(timeout=HUNG)
        manager.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                heard.append(manager.recv(200).decode())
    assert daemon.returncode == 0, err
    assert "STOPPING=1" in heard
    assert "ready" in err
    assert "stopped" in err
    last = status.read(wards.config("west").state)
    assert last is not None
    assert (last.phase, last.connected) == ("stopped", False)


def test_a_second_daemon_on_one_state_folder_is_refused(
    wards: Wards, federation: dict[str, Daemon]
) -> None:
    second = wards.daemon("north")
    assert second.ended() == 7
    assert f"process {federation['north'].process.pid}" in second.log.read_text()
    assert federation["north"].process.is_alive()


def test_threads_stay_under_the_cap(wards: Wards, federation: dict[str, Daemon]) -> None:
    status_text = Path(f"/proc/{federation['north'].process.pid}/limits").read_text()
    data = next(line for line in status_text.splitlines() if line.startswith("Max data size"))
    assert data.split()[3] != "unlimited"


# --- a study ---
def test_four_hospitals_learn_and_each_says_how_it_stands(
    wards: Wards, federation: dict[str, Daemon], template: Study
) -> None:
    running = wards.run(template)
    until(lambda: len(running.told.rounds) >= 3, "under way")
    state = wards.config("north").state
    until(lambda: bool((s := status.read(state)) and s.study), "told")
    now = status.read(state)
    assert now is not None
    assert now.connected
    assert now.study == template.digest
    assert stat.S_IMODE((state / status.FILE).stat().st_mode) == 0o600
    assert operate(wards, "north", "status") == 0
    outcome = running.outcome()
    assert outcome.status == "finished"
    assert outcome.metrics["auc"].value > 0.8
    assert running.told.losses == []
    for site in wards.sites:
        wards.verify_books(site)
    text = "".join(daemon.log.read_text() for daemon in federation.values())
    assert "wdbc" not in text, "no patient is named in a log"


def starts(daemon: Daemon) -> int:
    return sum(event["event"] == "ready" for event in daemon.events())


def test_sigterm_in_the_middle_of_a_study_loses_no_attempt(
    wards: Wards, federation: dict[str, Daemon]
) -> None:
    running = wards.run(wards.study(rounds=250, spare=50, **{"aggregation.scale": 1024}))
    for _ in range(2):
        wanted = len(running.told.rounds) + 3

        def under_way(wanted: int = wanted) -> bool:
            return len(running.told.rounds) >= wanted

        until(under_way, "under way")
        assert federation["west"].stop() == 0
        federation["west"] = daemon = wards.daemon("west")

        def ready(daemon: Daemon = daemon, before: int = starts(daemon)) -> bool:
            return starts(daemon) > before

        until(ready, "west is ready")
        until(lambda: sends_again(federation["west"]), "taking part again")
    running.cancel()
    assert running.told.losses == []
    wards.verify_books("west")


def sends_again(daemon: Daemon) -> bool:
    """Whether it has answered since it was started last."""
    events = [event["event"] for event in daemon.events()]
    return "sent" in events[len(events) - 1 - events[::-1].index("starting") :]


def test_a_patient_whom_the_index_renames_charges_everything_to_every_patient(
    wards: Wards, federation: dict[str, Daemon]
) -> None:
    """The daemon looks up who its patients are before a study's first debit."""
    path, index = wards.folder / "west" / "site.yaml", wards.folder / "west" / "mpi.csv"
    names = list(dict.fromkeys(registry.load(TASK).public_sites(None)["west"]["patient"]))

    def write_index(patients: list[int]) -> None:
        rows = [f"MRN{number},{name}" for number, name in zip(patients, names, strict=True)]
        index.write_text("\n".join(["patient,local", *rows]) + "\n")

    def finished(number: int) -> Study:
        study = renamed(wards.study(rounds=1, spare=1), number)
        assert wards.run(study).outcome().status == "finished"
        return study

    def known_names() -> dict[str, str]:
        with wards.books("west") as (_, state, _), state.reading() as db:
            return dict(db.execute("SELECT digest, names FROM studies").fetchall())

    def renamings() -> int:
        with wards.books("west") as (_, _, audit):
            return sum(entry.event == AuditEvent.PATIENTS_RENAMED for entry in audit.entries())

    write_index(list(range(len(names))))
    text = path.read_text().replace(f"  {TASK}:\n", f"  {TASK}:\n    names: local\n", 1)
    told = f"patients: {{files: {{mpi: {index}}}, view: SELECT * FROM mpi}}\n"
    assert federation["west"].stop() == 0
    path.write_text(text + told)
    federation["west"] = wards.daemon("west")
    wards.until_online()
    first = finished(101)
    before = renamings()
    assert known_names()[first.digest]
    write_index([1, 0, *range(2, len(names))])
    second = finished(102)
    assert renamings() == before + 1
    assert known_names()[first.digest] == known_names()[second.digest] == ""
    assert "MRN" not in federation["west"].log.read_text()


def test_a_revoked_study_stops_at_the_next_message(
    wards: Wards, federation: dict[str, Daemon]
) -> None:
    """The others go on: a study long enough to be revoked in the middle of, on any machine."""
    study = wards.study(rounds=250, spare=50, **{"aggregation.scale": 1024})
    running = wards.run(study)
    until(lambda: len(running.told.rounds) >= 2, "under way")
    assert operate(wards, "west", "revoke", study.digest[:10], "--yes") == 0
    until(lambda: running.told.rounds[-1].participants == 3, "going on without it")
    running.cancel()
    with wards.books("west") as (_, _, audit):
        events = [e for e in audit.entries() if e.fields.get("study") == study.digest]
    revoked = next(e.seq for e in events if e.event == "study_revoked")
    later = [e.event for e in events if e.seq > revoked]
    assert "privacy_debited" not in later
    assert later.count("message_answered") <= 1, "the one in hand, if any"
    assert later[-1] == "message_refused"


def hostile(study: Study, number: int) -> Frame:
    """One of many messages that no honest coordinator sends; the same number, the same message."""
    dice = random.Random(number)
    weights = dice.randbytes(4 * study.model.parameters)
    prepare = {
        "type": "prepare",
        "study": study.digest,
        "round": 1,
        "attempt": 1,
        "train": True,
        "evaluate": False,
        "model": digest(weights),
    }
    collect = {"type": "collect", "study": study.digest, "round": 1, "attempt": 1, "readys": []}
    document = study.model_dump(mode="json")
    weak = copy.deepcopy(document)
    weak["nonce"] = f"{number:016x}"
    section, field, value = dice.choice(
        (
            ("privacy", "noise_multiplier", 1e-9),
            ("privacy", "noise_multiplier", 0.0),
            ("privacy", "clip_norm", 1e-9),
            ("privacy", "delta", 0.4999),
            ("privacy", "sampling_rate", 1.5),
            ("privacy", "mode", "none"),
            ("privacy", "epsilon", 1e-3),
            ("aggregation", "least_sites", 1),
            ("aggregation", "masked", False),
            ("aggregation", "attempts", 200_000),
            ("evaluation", "noise_multiplier", 1e-6),
            ("task", "name", "heart_disease"),
            ("task", "source", "0" * 64),
            ("task", "name", "os.system"),
        )
    )
    weak[section][field] = value
    proposal = {"type": "propose", "document": canonical(weak).decode()}
    if dice.random() < 0.3:
        proposal["document"] = proposal["document"].replace(":", ": ", 1)
    changed = prepare | dice.choice(
        (
            {"round": -1},
            {"round": 0},
            {"round": study.optimisation.rounds + 2},
            {"round": study.optimisation.rounds + 1},
            {"attempt": 0},
            {"attempt": study.aggregation.attempts + 1},
            {"attempt": 10**9},
            {"train": False},
            {"evaluate": True},
            {"model": "0" * 64},
            {"study": "0" * 64},
            {"study": "../../etc/passwd"},
            {"code": "import os"},
            {"train": "yes"},
        )
    )
    header, body = dice.choice(
        (
            (canonical(changed), weights),
            (canonical(prepare), weights[:-4]),
            (canonical(prepare), weights + b"more"),
            (canonical(prepare | {"attempt": 1, "model": digest(b"")}), b""),
            (canonical(collect | {"attempt": dice.choice((1, 2, 999))}), b""),
            (canonical(proposal), b""),
            (canonical({"type": "standing", "study": study.digest, "state": "accepted"}), b""),
            (dice.randbytes(dice.randrange(1, 200)), dice.randbytes(30)),
            (b"", b""),
            (b"[" * 500, b""),
        )
    )
    return Frame(header, (body,) if body else ())


def test_hostile_messages_are_refused_touch_no_data_and_stop_nothing(
    wards: Wards, federation: dict[str, Daemon], template: Study
) -> None:
    study = renamed(template, 5)
    document = study.document.decode()
    accepted = wards.link.ask({"south": frame(Propose(document=document))}, NEVER)
    assert b'"accepted"' in present(next(iter(accepted))[1]).header
    record = wards.folder / "south" / "computed"
    before = record.read_text() if record.exists() else ""
    for number in range(300):
        message = hostile(study, number)
        ((_, answer),) = wards.link.ask({"south": message}, NEVER)
        assert answer is not None, number
        told = parse(answer)
        refused = isinstance(told, Refusal) or (isinstance(told, Standing) and told.code)
        assert refused, (number, message.header)
        known = {"type", "study", "code", "state", "rules", "release", "protocol"}
        assert set(json.loads(answer.header)) <= known
        assert set(getattr(told, "rules", ())) <= {*Policy.model_fields}
    assert (record.read_text() if record.exists() else "") == before
    assert federation["south"].process.is_alive()
    wards.verify_books("south")
    assert wards.run(renamed(template, 6)).outcome().status == "finished"


def test_a_restarted_coordinator_is_found_again(
    wards: Wards, federation: dict[str, Daemon], template: Study
) -> None:
    def losses() -> int:
        return sum(event["event"] == "not connected" for event in federation["east"].events())

    before = losses()
    wards.restart_coordinator(lambda: until(lambda: losses() > before, "its loss is told"))
    wards.until_online()
    outcome = wards.run(renamed(template, 4)).outcome()
    assert outcome.status == "finished"
    events = [event["event"] for event in federation["east"].events()]
    assert events.index("not connected") < len(events) - 1 - events[::-1].index("connected")


# --- what it refuses to begin with ---
def test_a_wrong_authority_or_an_unknown_key_ends_it_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "fed").mkdir()
    stranger = Wards(tmp_path / "fed")
    try:
        stranger.link.unregister("west")
        unknown = stranger.daemon("west")
        assert unknown.ended() == 4
        assert failure(unknown)["code"] == "node_key"
        other = Pki(tmp_path / "other")
        other.create("Other", ["127.0.0.1"])
        ca = stranger.config("east").coordinator.root_certificate
        ca.write_bytes(other.ca_certificate.read_bytes())
        wrong = stranger.daemon("east")
        assert wrong.ended() == 4
        assert failure(wrong)["code"] == "tls"
    finally:
        stranger.close()


def failure(daemon: Daemon) -> dict[str, str]:
    last = daemon.events()[-1]
    assert (last["event"], bool(last["do"])) == ("failed", True)
    return last


def test_it_waits_for_a_coordinator_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "fed").mkdir()
    early = Wards(tmp_path / "fed")
    early.link.stop()
    daemon = early.daemon("west")
    until(lambda: any(e["event"] == "not connected" for e in daemon.events()), "told")
    assert daemon.process.is_alive()
    early.restart_coordinator()
    early.until_online("west")
    assert daemon.stop() == 0
    early.close()


def test_it_waits_for_a_clock_that_is_set_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator's, or its own: a refusal does not say whose is wrong."""
    (tmp_path / "fed").mkdir()
    early = Wards(tmp_path / "fed")
    right = date.now
    monkeypatch.setattr(authentication, "now", lambda: right() + timedelta(minutes=10))
    daemon = early.daemon("west")
    until(lambda: any(e.get("code") == "clock" for e in daemon.events()), "told")
    assert daemon.events()[-1]["event"] != "failed", "it waits"
    monkeypatch.undo()
    early.until_online("west")
    assert daemon.stop() == 0
    early.close()


def test_memory_is_capped_and_a_cap_without_room_is_refused() -> None:
    def policy(mebibytes: int) -> Policy:
        return Policy.model_validate({"memory": f"{mebibytes} MiB"})

    text = "VmData:\t 900000 kB\nRssAnon:\t 500000 kB\n"
    with pytest.raises(WardroundError) as caught:
        limit_memory(policy(512), lambda: text)
    assert caught.value.code == Code.CONFIGURATION
    assert "policy.memory" in caught.value.message
    script = (
        "from client.config.resource_limits import limit_memory\n"
        "from client.config.policy import Policy\n"
        "limit_memory(Policy.model_validate({'memory': '512 MiB'}))\n"
        "small = bytearray(200 << 20)\n"
        "try: bytearray(600 << 20)\n"
        "except MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


# --- one question ---
class Post:
    """A connection that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Frame] = []

    def reply(self, incoming: IncomingMessage, frame: Frame) -> bool:
        self.sent.append(frame)
        return True

    def drop(self, incoming: IncomingMessage) -> None:
        assert not self.sent


class Asked:
    """A site that notes that it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def answer(self, received: Frame) -> Frame:
        self.times += 1
        return Frame(b"{}")


def reporting(folder: Path) -> StatusReporter:
    at = "2026-01-01"
    return StatusReporter(folder, status.StatusBoard(status.Status("north", "c:1", "0", 1, at, at)))


def test_an_answer_that_hangs_is_seen_beside_others_that_do_not(tmp_path: Path) -> None:
    reporter = reporting(tmp_path)
    reporter.expect(NEVER)
    with reporter.expecting(NEVER):
        with reporter.expecting(-1.0):
            assert not reporter.alive
        assert reporter.alive


@pytest.mark.parametrize(("ttl", "asked"), [(NEVER, 1), (-1.0, 0)])
def test_a_question_whose_time_is_over_is_not_even_begun(
    ttl: float, asked: int, tmp_path: Path
) -> None:
    post, site = Post(), Asked()
    incoming = IncomingMessage(Frame(b"{}"), "m", cast(Any, SimpleNamespace(ttl=ttl)))
    reporter = reporting(tmp_path)
    _answer(cast(Any, post), cast(Any, site), reporter, incoming)  # each has what is called of it
    assert (site.times, len(post.sent)) == (asked, asked)


def test_while_it_stops_another_study_s_question_does_not_end_it(tmp_path: Path) -> None:
    """What it has paid for and what ends is taken in; the rest is left to its next start."""
    config = new_site.init(
        tmp_path / "north", SiteAnswers("north", **{"data": {TASK: tmp_path}} | RULES)
    )
    loop = Loop(config, lambda: None)
    place: dict[str, Any] = {"study": "0" * 64, "round": 1, "attempt": 1}
    loop._stopping.set()
    asked = [
        frame(Prepare(**place, train=True, evaluate=False, model="0" * 64)),
        frame(Collect(**place, readys=())),
        frame(Close(study="0" * 64, outcome="finished")),
        None,
    ]
    meta = cast(Any, None)
    coming = [one and IncomingMessage(one, str(n), meta) for n, one in enumerate(asked)]
    taken = list[IncomingMessage]()
    fleet = SimpleNamespace(receive=lambda wait: coming.pop(0))
    workers = SimpleNamespace(has_room=lambda wait: True, take=taken.append, busy=False)
    loop._serve(cast(Any, fleet), cast(Any, workers), reporting(tmp_path))
    assert [one.message_id for one in taken] == ["1", "2"]


def test_it_begins_nothing_where_a_key_is_readable_by_others(tmp_path: Path) -> None:
    config = new_site.init(
        tmp_path / "north", SiteAnswers("north", **{"data": {TASK: tmp_path}} | RULES)
    )
    (tmp_path / "north" / "node.pem").chmod(0o640)
    with pytest.raises(WardroundError) as caught:
        Loop(SiteConfig.load(tmp_path / "north" / "site.yaml"), lambda: None).run()
    assert caught.value.code == Code.NODE_KEY
    assert not status.running(config.state)
    assert json.loads((config.state / "head.json").read_text())["seq"] == 0
