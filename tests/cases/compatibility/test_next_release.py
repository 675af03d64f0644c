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

from protocol.study.study import Study
from tests.cases.compatibility.releases import (
    ASK_FOR_THE_FOURTH_MODE,
    READ_SITE,
    READ_STUDY,
    RECEIVE,
    SEND,
    WRITE_SITE,
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
    "mode": Change(
        "protocol/study/study.py",
        '["none", "local", "distributed"]',
        '["none", "local", "distributed", "shuffled"]',
    ),
}


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


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a study of this release is read, with the same digest, by one that has a field more",
)
def test_a_study_is_read_by_a_release_with_an_optional_field_more(
    folder: Path, now: Release
) -> None:
    later = release(folder, "study-read", CHANGES["study"])
    wanted = now.run(READ_STUDY, OLD_STUDY)
    if wanted.status != 0:
        raise RuntimeError(wanted.said)
    assert later.run(READ_STUDY, OLD_STUDY) == wanted


@pytest.mark.slow
def test_a_sites_state_is_read_by_the_release_that_wrote_it(folder: Path, now: Release) -> None:
    ran = now.run(READ_SITE, state_of(now, folder, "now"))
    assert (ran.status, ran.said) == (0, "all of it works")


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a site works on after an update that adds an optional field",
)
@pytest.mark.parametrize("what", ["study", "event"])
def test_a_sites_state_is_read_by_a_release_with_an_optional_field_more(
    folder: Path, now: Release, what: str
) -> None:
    later = release(folder, f"{what}-state", CHANGES[what])
    ran = later.run(READ_SITE, state_of(now, folder, what))
    assert ran.status == 0, ran.said


def test_a_message_is_read_by_the_release_that_sent_it(folder: Path, now: Release) -> None:
    now.prepare(SEND, folder / "own")
    assert now.run(RECEIVE, folder / "own").said == "read prepare"


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a message of a later release is read, or refused with the release that it needs",
)
def test_a_message_with_an_optional_field_more_is_read_or_refused_by_release(
    folder: Path, now: Release
) -> None:
    release(folder, "message", CHANGES["message"]).prepare(SEND, folder / "frame")
    ran = now.run(RECEIVE, folder / "frame")
    assert ran.status == 0 or "release" in ran.said or "version" in ran.said, ran.said


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a privacy mode for which nothing is done is refused, or its steps are private",
)
def test_a_privacy_mode_that_is_only_named_trains_nobody_in_the_open(folder: Path) -> None:
    ran = release(folder, "mode", CHANGES["mode"]).run(ASK_FOR_THE_FOURTH_MODE)
    assert ran.said.startswith(("private", "refused")), ran.said
