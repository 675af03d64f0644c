"""Two releases meet: they work together, or each side says which is older and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from launch.config import compose
from launch.federations.inprocess import InProcessFederation, InProcessFleet, cohorts_of
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.release import PROTOCOL, RELEASE
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.messages import Frame
from server.outcome import Outcome
from server.rounds.dry_run import dry_run
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks.shipped.breast_cancer import BreastCancer

TASK = BreastCancer()
CONFIG = compose.load(["privacy=none", "evaluation=exact", "rounds=3", "aggregation.least_sites=3"])
PRIVATE = compose.load(["privacy=distributed", "privacy.epsilon=8", "rounds=2"])
COHORTS = cohorts_of(TASK, TASK.public_sites(None), split_plan(CONFIG))
SITES = tuple(COHORTS)
PATIENCE = Patience(join=0.0, poll=0.0, failures=3)


@dataclass
class BetweenReleases:
    """A fleet some of whose sites run another release."""

    inner: InProcessFleet
    older: frozenset[str] = frozenset()
    newer: frozenset[str] = frozenset()

    def online(self) -> frozenset[str]:
        return self.inner.online()

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        for site, frame in frames.items():
            if site in self.older:
                yield site, _as_the_first_release_answers(frame)
                continue
            ((_, answer),) = self.inner.ask({site: frame}, timeout)
            assert answer is not None
            yield site, _changed(answer, release="9.4.0", zeal=1) if site in self.newer else answer


@dataclass
class AskedByTheFirstRelease:
    """A fleet whose coordinator is of 0.1.0: it sends and reads headers as that release did."""

    inner: InProcessFleet
    spoken: list[dict[str, Any]] = field(default_factory=list)

    def online(self) -> frozenset[str]:
        return self.inner.online()

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        first = {site: Frame(_in_full(frame), frame.body) for site, frame in frames.items()}
        for site, answer in self.inner.ask(first, timeout):
            assert answer is not None
            self.spoken.append(json.loads(answer.header))
            yield site, answer


def _in_full(frame: Frame) -> bytes:
    """A header as 0.1.0 wrote it: no release, no protocol, every field."""
    return canonical(messages.parse(frame).model_dump(mode="json"))


def _as_the_first_release_answers(frame: Frame) -> Frame:
    """It refuses a header with a field that it does not know, without a word on which."""
    assert {"release", "protocol"} <= set(json.loads(frame.header))
    return Frame(canonical({"type": "refusal", "study": None, "code": "message"}))


def _changed(frame: Frame, **fields: Any) -> Frame:
    return replace(frame, header=canonical(json.loads(frame.header) | fields))


def study_of(config: Any = CONFIG) -> Study:
    return build_study(config, TASK, declared_patients(COHORTS))


def run(study: Study, fleet: Any, federation: InProcessFederation) -> Outcome:
    listeners = Listeners()
    return RoundLoop(study, TASK, fleet, federation.roster, listeners, patience=PATIENCE).run()


def test_sites_of_the_first_release_are_said_to_be_older() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = BetweenReleases(federation._fleet, older=frozenset(SITES))
    with pytest.raises(WardroundError) as caught:
        run(study_of(), fleet, federation)
    error = caught.value
    assert error.code is Code.TOO_FEW_SITES
    assert f"{len(SITES)} refused (release)" in error.message
    assert f"sites run wardround 0.1.0 and this coordinator {RELEASE}" in error.remedy
    assert f"The sender is the older one: install wardround {RELEASE} there." in error.remedy
    assert not any(site in str(error) for site in SITES), "never which hospital"


def test_one_site_of_another_release_is_left_out_and_the_others_go_through() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = BetweenReleases(federation._fleet, older=frozenset(SITES[:1]))
    study = study_of(PRIVATE)
    outcome = run(study, fleet, federation)
    assert outcome.status == "finished"
    assert {report.participants for report in outcome.rounds} == {len(SITES) - 1}


def test_sites_of_a_newer_release_make_this_coordinator_the_older_one() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = BetweenReleases(federation._fleet, newer=frozenset(SITES))
    with pytest.raises(WardroundError) as caught:
        run(study_of(), fleet, federation)
    assert "sites run wardround 9.4.0" in caught.value.remedy
    assert "This side is the older one: install wardround 9.4.0 here." in caught.value.remedy


def test_a_plan_counts_sites_of_another_release() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = BetweenReleases(
        federation._fleet, older=frozenset(SITES[:1]), newer=frozenset(SITES[1:2])
    )
    told = dry_run(study_of(), fleet, federation.roster, PATIENCE)
    assert told["codes"] == {"release": 2}
    assert told["answers"]["accepted"] == len(SITES) - 2


@pytest.mark.parametrize("config", [CONFIG, PRIVATE], ids=["none", "distributed"])
def test_a_coordinator_of_the_first_release_is_answered_in_its_own_protocol(config: Any) -> None:
    federation = InProcessFederation(COHORTS)
    fleet = AskedByTheFirstRelease(federation._fleet)
    study = study_of(config)
    outcome = run(study, fleet, federation)
    assert outcome.status == "finished"
    kinds = {header["type"] for header in fleet.spoken}
    assert kinds == {"standing", "ready", "share"}
    assert not any({"release", "protocol", "annotations"} & set(header) for header in fleet.spoken)
    if config is CONFIG:
        again = InProcessFederation(COHORTS)
        np.testing.assert_array_equal(outcome.weights, run(study, again._fleet, again).weights)


def test_a_task_that_an_upgrade_changed_is_refused_by_that_name() -> None:
    federation = InProcessFederation(COHORTS)
    document = study_of().model_dump()
    document["task"]["source"] = "0" * 64
    study = Study.model_validate(document)
    with pytest.raises(WardroundError) as caught:
        federation.run(study, TASK, Listeners())
    assert caught.value.code is Code.TASK_CHANGED
    assert "An upgrade on one side changes it" in caught.value.message
    assert "submitted again after it" in caught.value.remedy
    # A coordinator of the first release has no name for it, and still gets a refusal it can read.
    first = AskedByTheFirstRelease(federation._fleet)
    told = dry_run(study, first, federation.roster, PATIENCE)
    assert told["codes"] == {"refused_study": len(SITES)}


def test_a_newer_coordinator_is_refused_with_the_release_that_is_missing() -> None:
    federation = InProcessFederation(COHORTS)
    propose = messages.Propose(document=study_of().document.decode())
    site = federation._fleet._sites[SITES[0]]
    for header in (
        {"release": "9.4.0", "protocol": PROTOCOL + 1},
        {"release": "9.4.0", "protocol": PROTOCOL, "zeal": 1},
    ):
        asked = _changed(messages.frame(propose), **header)
        answer = site.answer(asked)
        assert messages.parse(answer) == messages.Refusal(study=None, code=Code.RELEASE)
        assert messages.sender(answer).release == RELEASE
        said = federation.governance[SITES[0]].errors[-1]
        assert "runs wardround 9.4.0" in said.message
        assert said.remedy == "This side is the older one: install wardround 9.4.0 here."


def test_a_study_with_a_newer_field_is_refused_with_its_senders_release() -> None:
    federation = InProcessFederation(COHORTS)
    document = json.loads(study_of().document) | {"protocol_number": "EU 1"}
    propose = messages.Propose(document=canonical(document).decode())
    site = federation._fleet._sites[SITES[0]]
    asked = _changed(messages.frame(propose), release="9.4.0")
    assert messages.parse(site.answer(asked)) == messages.Refusal(study=None, code=Code.RELEASE)
    said = federation.governance[SITES[0]].errors[-1]
    assert "`protocol_number`" in said.message
    assert "9.4.0" in said.message
