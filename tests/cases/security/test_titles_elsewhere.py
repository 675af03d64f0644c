"""Words from elsewhere are text wherever a terminal shows them, not only in `wardround coordinator
status`: a study's title and contact, the names of sites, the reasons that a coordinator gives.

Kind of fault: words from the network printed as markup (Rich) or raw.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.errors import MarkupError

from client.cli import main
from client.config.site_config import SiteConfig
from client.config.site_roster import roster_text
from client.daemon import status
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.governance import SiteGovernance
from client.log_events import LOGGER, configure, event
from launch.studies import result_view
from launch.studies.plans import plan
from launch.studies.plans.plan_bytes import traffic
from launch.studies.progress import StudyProgress
from launch.studies.run import FinishedStudy
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.terminal.command_line import fail
from server.coordinator.journal import Journal
from server.coordinator.study_events import Event, deliver, error_from_json
from server.tracking.tracker import TrackingReceipt
from tests.cases.security.titles import WORDS, Words
from tests.client.hospital import SITE, SITES
from tests.client.hospital import study as study_for_a_site
from tests.server import outcomes

ALL = [pytest.param(words, id=name) for name, words in WORDS.items()]
Show = Callable[[str], str]
"""Words -> what is printed of them."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What consoles look at, the same wherever the tests run."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "WARDROUND_SITE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "300")


def terminal(file: io.StringIO) -> Console:
    return Console(file=file, force_terminal=True, width=300, color_system="standard")


# --- a data scientist's terminal ---
def result(title: str) -> str:
    """The end of `wardround run`."""
    text, done = io.StringIO(), outcomes.outcome(outcomes.study(title=title))
    result_view.show(FinishedStudy(done, Path("outputs"), TrackingReceipt()), terminal(text))
    return text.getvalue()


def planned(title: str) -> str:
    """`wardround plan`."""
    text, study = io.StringIO(), outcomes.study(title=title)
    found = plan.StudyPlan(
        study=study,
        simulated=True,
        epsilon=None,
        epsilon_broken=None,
        traffic=traffic(study),
        seconds=1.0,
        answers=None,
        policies={},
    )
    plan.show(found, terminal(text))
    return text.getvalue()


def lost_attempt(why: str) -> str:
    """A line of `wardround run` in a pipe: why an attempt was lost, as the coordinator says it."""
    return followed({"type": "lost", "round": 1, "attempt": 1, "why": why}, live=False)


def lost_attempt_live(why: str) -> str:
    """The same in a terminal, below the table of rounds."""
    return followed({"type": "lost", "round": 1, "attempt": 1, "why": why}, live=True)


def awaited_site(name: str) -> str:
    """A line of `wardround run` in a pipe: a site that the coordinator says it waits for."""
    happened = {"type": "waiting", "why": "offline", "sites": [name, "north"]}
    return followed(happened, live=False)


def followed(happened: Event, *, live: bool) -> str:
    """What `wardround run` shows of an event of its study."""
    text = io.StringIO()
    piped = Console(file=text, force_terminal=False, width=300, color_system=None)
    console = terminal(text) if live else piped
    with StudyProgress(outcomes.study(), console) as shown:
        deliver(happened, shown)
    return text.getvalue()


# --- an operator's terminal ---
def journal(title: str) -> str:
    """What `wardround coordinator start` says as a study starts."""
    text = io.StringIO()
    Journal(None, console=text).write("study-starts", title=title, account="ada")
    return text.getvalue()


SHOWN: dict[str, Show] = {
    "the result of wardround run": result,
    "wardround plan": planned,
    "a lost attempt in wardround run": lost_attempt,
    "a lost attempt in wardround run, live": lost_attempt_live,
    "an awaited site in wardround run": awaited_site,
    "wardround coordinator start": journal,
}


def cases() -> Iterator[object]:
    for place, show in SHOWN.items():
        for name, words in WORDS.items():
            yield pytest.param(show, words, id=f"{place}: {name}")


@pytest.mark.parametrize(("show", "words"), cases())
def test_words_are_shown_as_text(show: Show, words: Words) -> None:
    try:
        printed = show(words.text)
    except MarkupError as error:
        printed = f"MarkupError: {error}"
    except (WardroundError, ValueError):
        return  # refused
    assert words.faults(printed) == []


@pytest.mark.parametrize("name", ["escape sequences", "right to left", "markup", "a closing tag"])
def test_an_error_from_the_coordinator_is_shown_as_text(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = WORDS[name]
    said = {"code": Code.REFUSED_STUDY.value, "message": words.text, "remedy": words.text}
    with pytest.raises(SystemExit):
        fail(error_from_json(said))
    assert words.faults(capsys.readouterr().err) == []


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a site's daemon writes to standard error."""
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.propagate, logger.level
    configure("text")
    (handler,) = logger.handlers
    text = io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text)
    yield text
    logger.handlers[:], logger.propagate, _ = before
    logger.setLevel(before[2])


@pytest.mark.parametrize("words", ALL)
def test_a_sites_log_has_words_as_text(log: io.StringIO, words: Words) -> None:
    event("study", study="0" * 64, title=words.text, standing="waiting")
    logging.getLogger(LOGGER).warning("refused: %s", words.text)
    assert words.faults(log.getvalue()) == []


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """alpha, whose rules suffice for a private study of breast_cancer."""
    answers = SiteAnswers(
        site=SITE,
        data={"breast_cancer": tmp_path / "data.csv"},
        tasks=("breast_cancer",),
        purposes=("research",),
        modes=("local",),
        approval="rule",
        delta=1e-3,
        epsilon_per_study=1e3,
        epsilon_lifetime=9e3,
    )
    config = new_site.init(tmp_path / SITE, answers)
    keys = {name: Identity.generate().public_key.hex() for name in SITES}
    keys[SITE] = config.load_identity().public_key.hex()
    (tmp_path / SITE / new_site.ROSTER).write_bytes(roster_text(keys))
    return tmp_path / SITE


def told(site: Path, study: Study) -> SiteGovernance:
    """The site's daemon as far as others can see it, at work on a study."""
    config = SiteConfig.load(site / new_site.SITE_YAML)
    governance = SiteGovernance(config, config.load_identity(), daemon=True)
    governance.propose(study)
    now = status.Status(
        site=SITE,
        coordinator="127.0.0.1:1",
        version="1",
        pid=1,
        started=status.utc(),
        updated=status.utc(),
        study=study.digest,
        title=study.title,
        round=1,
        rounds=20,
        attempt=1,
    )
    status.write(config.state, now)
    return governance


@pytest.mark.parametrize("words", ALL)
def test_a_hospitals_operator_reads_title_and_contact_as_text(
    site: Path,
    words: Words,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    try:
        study = study_for_a_site(title=words.text, contact=words.text)
    except (WardroundError, ValueError):
        return  # refused
    governance = told(site, study)
    try:
        for command in (("studies",), ("show", study.digest), ("ledger",), ("status",)):
            argv = ["wardround-site", *command, "--config", str(site)]
            monkeypatch.setattr(sys, "argv", argv)
            with pytest.raises(SystemExit):
                main.main()
            out, err = capsys.readouterr()
            assert words.faults(out + err) == [], command
    finally:
        governance.close_state()
