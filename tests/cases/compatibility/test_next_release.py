"""The next release reads what this one wrote, and this one understands the next.

A release adds an optional field to a study, to an event of the ledger or to a message, or names a
privacy mode. Hospitals update on days of their own choosing, so old documents meet new code and
new messages old code. Three kinds of fault stand behind these tests: a canonical form that writes
defaults out, so that a new field changes the identity of every old study; stored documents that
are made again by today's code and compared; and branches on a mode whose last one is "plain".
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from tests.cases.compatibility.releases import (
    ASK_FOR_THE_FOURTH_MODE,
    READ_CHECKPOINT,
    READ_SITE,
    READ_SITE_BACK,
    READ_STUDY,
    RECEIVE,
    SEND,
    SEND_COMPRESSED,
    WRITE_CHECKPOINT,
    WRITE_SITE,
    WRITE_STUDY,
    Change,
    Release,
    release,
)

OLD_STUDY = Path(__file__).with_name("old_study.json")
CHANGES = {
    "study": Change(
        "protocol/study/study.py",
        "    query: Query | None = None\n",
        "    query: Query | None = None\n    protocol_number: str | None = None\n",
    ),
    "event": Change(
        "protocol/privacy/events.py",
        "    band: tuple[float, float] = (0.0, 1.0)\n",
        '    band: tuple[float, float] = (0.0, 1.0)\n    sampling: str = "poisson"\n',
    ),
    "message": Change(
        "protocol/wire/messages.py",
        "    model: Digest\n    lost:",
        "    model: Digest\n    compressed: bool = False\n    lost:",
    ),
    "checkpoint": Change(
        "server/model/checkpoint.py",
        "    pending: dict[str, Any] | None\n",
        "    pending: dict[str, Any] | None\n    anchor: float | None = None\n",
    ),
    "mode": Change(
        "protocol/study/privacy_mode.py",
        '["none", "local", "distributed"]',
        '["none", "local", "distributed", "shuffled"]',
    ),
}

ADDED = (
    Change(
        "protocol/study/study.py",
        "    query: Query | None = None\n",
        "    query: Query | None = None\n    protocol_number: str | None = added_field(None)\n",
    ),
    Change(
        "protocol/study/study.py",
        "from protocol.errors import",
        "from protocol.document import added_field\nfrom protocol.errors import",
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees")


@pytest.fixture(scope="module")
def now(folder: Path) -> Release:
    """This release, unchanged."""
    return release(folder, "now")


def state_of(now: Release, folder: Path, name: str) -> Path:
    """A site's folder as this release leaves it."""
    site = folder / f"site-{name}"
    site.mkdir(mode=0o700)
    now.prepare(WRITE_SITE, site)
    return site


def test_a_study_is_read_with_the_digest_of_its_bytes() -> None:
    document = OLD_STUDY.read_bytes()
    assert Study.parse(document).digest == hashlib.sha256(document).hexdigest()


def test_a_study_is_read_by_a_release_with_an_optional_field_more(
    folder: Path, now: Release
) -> None:
    later = release(folder, "study-read", CHANGES["study"])
    wanted = now.run(READ_STUDY, OLD_STUDY)
    if wanted.status != 0:
        raise RuntimeError(wanted.said)
    assert later.run(READ_STUDY, OLD_STUDY) == wanted


def test_a_study_of_a_later_release_is_refused_by_the_field_that_is_new(folder: Path) -> None:
    later = release(folder, "study-written", CHANGES["study"])
    later.prepare(WRITE_STUDY, folder / "study.json", OLD_STUDY)
    with pytest.raises(WardroundError) as refused:
        Study.parse((folder / "study.json").read_bytes())
    assert refused.value.code is Code.RELEASE
    assert "`protocol_number`" in refused.value.message
    assert "install" in refused.value.remedy


def test_a_field_that_is_left_out_while_it_is_not_used_troubles_nobody(folder: Path) -> None:
    """As `added_field` declares it: the later release writes what this one reads."""
    later = release(folder, "study-added", *ADDED)
    later.prepare(WRITE_STUDY, folder / "same.json", OLD_STUDY)
    document = (folder / "same.json").read_bytes()
    assert Study.parse(document).document == document
    assert (
        later.run(READ_STUDY, folder / "same.json").said == f"read {Study.parse(document).digest}"
    )


@pytest.mark.slow
def test_a_sites_state_is_read_by_the_release_that_wrote_it(folder: Path, now: Release) -> None:
    ran = now.run(READ_SITE, state_of(now, folder, "now"))
    assert (ran.status, ran.said) == (0, "all of it works")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["study", "event"])
def test_a_sites_state_is_read_by_a_release_with_an_optional_field_more(
    folder: Path, now: Release, what: str
) -> None:
    later = release(folder, f"{what}-state", CHANGES[what])
    ran = later.run(READ_SITE, state_of(now, folder, what))
    assert ran.status == 0, ran.said


@pytest.mark.slow
@pytest.mark.parametrize(("what", "field"), [("study", "protocol_number"), ("event", "sampling")])
def test_a_sites_state_of_a_later_release_is_refused_by_the_field_that_is_new(
    folder: Path, now: Release, what: str, field: str
) -> None:
    """Never as tampered with, never with a traceback: the ledger of a hospital that went back to
    the older release says what is missing."""
    later = release(folder, f"{what}-back", CHANGES[what])
    ran = now.run(READ_SITE_BACK, state_of(later, folder, f"{what}-back"))
    assert ran.said == f"refused as release: `{field}`"


def test_a_message_is_read_by_the_release_that_sent_it(folder: Path, now: Release) -> None:
    now.prepare(SEND, folder / "own")
    assert now.run(RECEIVE, folder / "own").said == "read prepare"


def test_a_message_with_an_optional_field_more_is_read_or_refused_by_release(
    folder: Path, now: Release
) -> None:
    release(folder, "message", CHANGES["message"]).prepare(SEND, folder / "frame")
    ran = now.run(RECEIVE, folder / "frame")
    assert ran.status == 0 or "release" in ran.said or "version" in ran.said, ran.said


def test_a_message_that_uses_a_later_field_is_refused_by_its_name(
    folder: Path, now: Release
) -> None:
    later = release(folder, "message-used", CHANGES["message"])
    later.prepare(SEND_COMPRESSED, folder / "used")
    assert "`prepare.compressed`" in now.run(RECEIVE, folder / "used").said


def test_a_checkpoint_is_read_by_a_release_with_an_optional_field_more(
    folder: Path, now: Release
) -> None:
    later = release(folder, "checkpoint", CHANGES["checkpoint"])
    now.prepare(WRITE_CHECKPOINT, folder / "now.pt")
    later.prepare(WRITE_CHECKPOINT, folder / "later.pt")
    assert later.run(READ_CHECKPOINT, folder / "now.pt").said == "read round 3"
    assert later.run(READ_CHECKPOINT, folder / "later.pt").said == "read round 3"
    assert now.run(READ_CHECKPOINT, folder / "later.pt").said == "refused as release: `anchor`"


@pytest.mark.slow
def test_a_privacy_mode_that_is_only_named_trains_nobody_in_the_open(folder: Path) -> None:
    ran = release(folder, "mode", CHANGES["mode"]).run(ASK_FOR_THE_FOURTH_MODE)
    assert ran.said.startswith(("private", "refused")), ran.said
