"""The one door: what is answered and refused is noted, and nothing leaves unnoted."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from client.config.site_config import SiteConfig
from client.governance import audit
from client.governance.database import SiteState
from client.governance.governance import SiteGovernance
from client.governance.notices import Answered, Closed, Debited, Notice, Proposed, Refused
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.vector_layout import Sections
from protocol.wire.messages import Frame, Share
from tests.client.hospital import SITES, numbered, study


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    identity = Identity.generate()
    identity.save(tmp_path / "identity.pem")
    roster = {name: os.urandom(32).hex() for name in SITES}
    roster["alpha"] = identity.public_key.hex()
    (tmp_path / "site.yaml").write_text(
        yaml.safe_dump(
            {
                "site": "alpha",
                "identity": "identity.pem",
                "node_key": "node.pem",
                "coordinator": {"address": "localhost:9092", "root_certificate": "ca.pem"},
                "roster": roster,
                "state": "state",
                "data": {"breast_cancer": {"files": {"t": "t.csv"}, "view": "SELECT * FROM t"}},
                "policy": {
                    "tasks": ["breast_cancer"],
                    "purposes": ["research"],
                    "modes": ["local"],
                    "approval": "rule",
                    "epsilon_per_study": 3.0,
                    "epsilon_lifetime": 5.0,
                },
            }
        )
    )
    SiteState.create(tmp_path / "state", "alpha", identity.public_key.hex()).close()
    return SiteConfig.load(tmp_path / "site.yaml")


def test_an_attempt_leaves_its_trace(config: SiteConfig) -> None:
    site = SiteGovernance(config, config.load_identity(), daemon=True)
    one = study()
    assert site.propose(one) == ("accepted", None)
    site.admit(one)
    site.debit(one, 1, 1, Sections(one, train=True, evaluate=False))
    sent = Frame(b"header", [b"one", memoryview(b"two")])
    site.answered(Share(study=one.digest, round=1, attempt=1), sent)
    site.refused(None, WardroundError(Code.MESSAGE, "A message header is malformed."))
    site.close(one, "finished")
    entries = site.audit.entries()
    assert [entry.event for entry in entries] == [
        "daemon_started",
        "study_seen",
        "study_accepted",
        "privacy_debited",
        "message_answered",
        "message_refused",
        "study_closed",
    ]
    assert entries[4].fields["bytes"] == 12
    assert entries[4].fields["sha256"] == hashlib.sha256(b"headeronetwo").hexdigest()
    assert entries[5].fields == {"study": None, "code": "message"}
    site.audit.verify()
    site.close_state()


def test_refusals_without_end_are_counted_in_few_entries(config: SiteConfig) -> None:
    told: list[Notice] = []
    site = SiteGovernance(config, config.load_identity(), daemon=True, notify=told.append)
    for _ in range(500):
        site.refused("a" * 64, WardroundError(Code.MESSAGE, "A message header is malformed."))
    site.refused(None, WardroundError(Code.REFUSED_STUDY, "No."))
    site.close_state()
    command = SiteGovernance(config, config.load_identity())
    refused = [e.fields for e in command.audit.entries() if e.event == "message_refused"]
    command.audit.verify()
    command.close_state()
    assert len(told) == 501
    assert refused == [
        *[{"study": "a" * 64, "code": "message"}] * 20,
        {"study": None, "code": "refused_study"},
        {"study": None, "code": "message", "count": 480},
    ]


def test_a_coordinator_cannot_fill_the_audit_log_for_nothing(
    config: SiteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dry runs, new studies, studies that end and resume, answers that are asked for again."""
    monkeypatch.setattr(audit, "MOST", 3)
    site = SiteGovernance(config, config.load_identity(), daemon=True)
    held = study()
    site.propose(held)
    site.debit(held, 1, 1, Sections(held, train=True, evaluate=False))
    share, sent = Share(study=held.digest, round=1, attempt=1), Frame(b"header", [])

    def cycle() -> None:
        site.close(held, "paused")
        site.propose(held)

    def others() -> Iterator[Callable[[], object]]:
        for number in range(20):
            other = numbered(number)
            yield lambda: site.weigh(other, note=True)  # noqa: B023 (called at once)
            yield lambda: site.propose(other)  # noqa: B023 (called at once)
            yield lambda: site.answered(share, sent, again=True)
            yield cycle

    codes = Counter(code_of(call) for call in others())
    assert codes.keys() == {None, Code.REFUSED_POLICY}
    assert codes[Code.REFUSED_POLICY] > 40
    for _ in range(10):
        site.answered(share, sent)  # another attempt's, which was paid for
    written = Counter(entry.event for entry in site.audit.entries())
    assert written.pop("message_answered") == 3 + 10
    assert max(written.values()) <= 3
    assert site.audit.verify()
    site.close_state()
    command = SiteGovernance(config, config.load_identity())  # a person's own are not counted
    for number in range(5):
        command.weigh(numbered(100 + number), note=True)
    command.close_state()


def code_of(call: Callable[[], object]) -> Code | None:
    try:
        call()
    except WardroundError as error:
        return error.code
    return None


def test_whoever_watches_is_told_once_it_is_durable(config: SiteConfig) -> None:
    seen: list[tuple[Notice, str]] = []

    def watching(notice: Notice) -> None:
        seen.append((notice, site.audit.entries()[-1].event))

    site = SiteGovernance(config, config.load_identity(), daemon=True, notify=watching)
    one, refusal = study(), WardroundError(Code.MESSAGE, "A message header is malformed.")
    sections = Sections(one, train=True, evaluate=False)
    site.propose(one)
    site.debit(one, 1, 1, sections)
    with pytest.raises(WardroundError):
        site.debit(one, 1, 1, sections)
    site.answered(Share(study=one.digest, round=1, attempt=1), Frame(b"header"))
    site.refused(None, refusal)
    site.close(one, "finished")
    assert seen == [
        (Proposed(one, "accepted", None), "study_accepted"),
        (Debited(one, 1, 1), "privacy_debited"),
        (Answered(one.digest, "share", 1, 1, 6), "message_answered"),
        (Refused(None, refusal), "message_refused"),
        (Closed(one, "finished"), "study_closed"),
    ]
    site.close_state()


def test_a_refusal_stands_even_where_it_cannot_be_noted(config: SiteConfig) -> None:
    site = SiteGovernance(config, config.load_identity(), daemon=True)
    (config.state / "head.json").unlink()
    site.refused("a" * 64, WardroundError(Code.REFUSED_STUDY, "No."))
    with pytest.raises(WardroundError) as caught:
        site.answered(Share(study="a" * 64, round=1, attempt=1), Frame(b"x"))
    assert caught.value.code == Code.LEDGER
    site.close_state()
    with pytest.raises(WardroundError):
        SiteGovernance(config, config.load_identity(), daemon=True)
    command = SiteGovernance(config, config.load_identity())
    command.ledger.acknowledge()
    command.close_state()
    SiteGovernance(config, config.load_identity(), daemon=True).close_state()


def test_a_daemon_holds_open_studies_against_todays_rules(config: SiteConfig) -> None:
    site = SiteGovernance(config, config.load_identity(), daemon=True)
    one = study()
    site.propose(one)
    site.close_state()
    stricter = config.policy.model_copy(update={"purposes": ()})
    config = config.model_copy(update={"policy": stricter})
    site = SiteGovernance(config, config.load_identity(), daemon=True)
    with pytest.raises(WardroundError) as caught:
        site.admit(one)
    assert caught.value.code == Code.REVOKED
    site.close_state()
