"""A site that restarts between its Ready and the sum: the same bytes again, or none."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from client.daemon.answers.stored_answers import StoredAnswers
from client.daemon.site import Site
from launch.config import compose
from launch.federations.inprocess import InProcessFederation, InProcessFleet, cohorts_of
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code
from protocol.wire import messages
from protocol.wire.messages import Frame
from server.outcome import Outcome
from server.rounds import farewell
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks.shipped.breast_cancer import BreastCancer

TASK = BreastCancer()
CONFIG = compose.load(["privacy=distributed", "rounds=2", "aggregation.spare_attempts=1"])
COHORTS = cohorts_of(TASK, TASK.public_sites(None), split_plan(CONFIG))


class Restarting(InProcessFleet):
    """A fleet in which the answers of `west` to the first Collect get lost, and `west` restarts."""

    def __init__(self, folder: Path, change: Callable[[Frame], Frame] = lambda frame: frame):
        self.federation = InProcessFederation(COHORTS)
        super().__init__(self.federation._fleet._sites)
        self.folder, self.change = folder, change
        self.sent: list[bytes] = []
        self.codes: list[Code] = []
        self.restart()

    def restart(self) -> None:
        """`west` forgets all but what is on its disk and in its ledger."""
        before = self._sites["west"]
        after = Site(
            before.name,
            before._identity,
            before._roster,
            before._governance,
            before._cohort,
            answers=StoredAnswers(self.folder),
            party=before._party_type,
            allow_unmasked=True,
        )
        after._accepted = dict(before._accepted)  # as `reopen` does
        self._sites["west"] = after

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        for site, frame in frames.items():
            asked = messages.parse(frame)
            if site != "west" or not isinstance(asked, messages.Collect):
                yield from super().ask({site: frame}, timeout)
                continue
            if len(self.sent) == 1:
                frame = self.change(frame)
            answer = self._sites[site].answer(frame)
            parsed = messages.parse(answer)
            if isinstance(parsed, messages.Refusal):
                self.codes.append(parsed.code)
            self.sent.append(b"".join(bytes(chunk) for chunk in answer.body))
            if len(self.sent) == 1:
                self.restart()
                yield site, None
            else:
                yield site, Frame(answer.header, [self.sent[-1]])

    def run(self) -> tuple[Outcome, RoundLoop]:
        study = build_study(CONFIG, TASK, declared_patients(COHORTS))
        loop = RoundLoop(
            study,
            TASK,
            self,
            self.federation.roster,
            Listeners(),
            patience=Patience(join=0.0, poll=0.0, comeback=0.0),
        )
        return loop.run(), loop


def test_a_restarted_site_sends_the_same_bytes_and_the_attempt_is_not_lost(tmp_path: Path) -> None:
    fleet = Restarting(tmp_path / "answers")
    outcome, loop = fleet.run()
    assert fleet.sent[0] == fleet.sent[1] != fleet.sent[2]
    assert outcome.status == "finished"
    assert (loop.attempts.made, loop.attempts.lost) == (3, ())
    assert any((tmp_path / "answers").iterdir())
    farewell.send(loop.study, fleet, frozenset(COHORTS), "finished")
    assert not any((tmp_path / "answers").iterdir()), "the study has ended"


def other_round(frame: Frame) -> Frame:
    asked = messages.parse(frame)
    assert isinstance(asked, messages.Collect)
    return messages.frame(asked.model_copy(update={"round": 2}))


def other_sites(frame: Frame) -> Frame:
    asked = messages.parse(frame)
    assert isinstance(asked, messages.Collect)
    return messages.frame(asked.model_copy(update={"readys": asked.readys[1:]}))


@pytest.mark.parametrize("change", [other_round, other_sites])
def test_a_restarted_site_answers_no_other_question(
    change: Callable[[Frame], Frame], tmp_path: Path
) -> None:
    fleet = Restarting(tmp_path / "answers", change)
    _, loop = fleet.run()
    assert fleet.codes == [Code.REFUSED_REPLAY]
    assert loop.attempts.lost == (1,)


def test_only_the_site_reads_what_it_answered_and_a_sweep_leaves_running_studies(
    tmp_path: Path,
) -> None:
    fleet = Restarting(tmp_path / "answers")
    seen = list[int]()

    def look(frame: Frame) -> Frame:
        (path,) = (tmp_path / "answers").iterdir()
        seen.extend([path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777])
        store = StoredAnswers(path.parent)
        store.sweep({path.name})
        assert path.exists()
        store.sweep(())
        assert not path.exists()
        return frame

    fleet.change = look
    fleet.run()
    assert seen == [0o600, 0o700]
    assert fleet.codes == [Code.REFUSED_REPLAY], "swept away"
