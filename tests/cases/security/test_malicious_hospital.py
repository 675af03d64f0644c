"""One hospital that sends what no honest hospital could send does not get its model released.

Kind of fault: a sum of masked vectors without a bound on what one site adds. Masks hide who it
was, so the study need not say it; but it has to notice, and to end with a reason instead of a
model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from client.config.known_roster import KnownRoster
from client.daemon.site import Site
from client.data.cohort import Cohort
from launch.federations.inprocess import InProcessFleet
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.messages import Frame, Share
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks import registry
from tests.attack.hostile import Words
from tests.attack.simulated import TASK, Paying, cohorts, study_of

LIAR = "site2"
PARAMETERS = 31
"""Of the model of this task: the first words of a share, before those of its evaluation."""
ROUNDS = 3
Lie = Callable[[Words], Words]


def random_words(share: Words) -> Words:
    drawn = np.random.default_rng().integers(0, 2**32, len(share), np.uint32)
    return drawn.astype(share.dtype)


def random_words_and_honest_guards(share: Words) -> Words:
    """The last words of a share only show that the masks cancelled; the others are garbage."""
    lie = random_words(share)
    lie[-GUARDS:] = share[-GUARDS:]
    return lie


def shifted_words(share: Words) -> Words:
    """2^29 more on each word of the update: the model goes where this hospital wants it."""
    lie = share.copy()
    lie[:PARAMETERS] += share.dtype.type(2**29)
    return lie


class Malicious(Site):
    """A hospital with its own keys and everybody's trust, which lies about its masked share in
    every round that trains."""

    lie: Lie

    def answer(self, received: Frame) -> Frame:
        honest = super().answer(received)
        message = messages.parse(honest)
        if not isinstance(message, Share) or message.round > ROUNDS:
            return honest
        words = np.frombuffer(b"".join(bytes(chunk) for chunk in honest.body), np.uint32)
        return messages.frame(message, messages.chunks(type(self).lie(words)))


def site(
    name: str, identity: Identity, roster: dict[str, str], cohort: Cohort, lie: Lie | None
) -> Site:
    kind: type[Site] = Site
    if lie is not None:
        kind = type("Malicious", (Malicious,), {"lie": staticmethod(lie)})
    return kind(name, identity, KnownRoster(roster), Paying(), lambda task, study: cohort)


@pytest.fixture(scope="module")
def patients() -> dict[str, Cohort]:
    return cohorts(4)


@pytest.fixture(scope="module", params=["distributed", "local"])
def study(patients: dict[str, Cohort], request: pytest.FixtureRequest) -> Study:
    """With masks, over words of 32 bits."""
    spare = "aggregation.spare_attempts=20"
    words = (f"privacy={request.param}", "privacy.epsilon=20", f"rounds={ROUNDS}", spare)
    made = study_of(patients, *words)
    assert (made.aggregation.word_bits, made.model.parameters) == (32, PARAMETERS)
    return made


def end_of(study: Study, patients: dict[str, Cohort], lie: Lie | None) -> str:
    """How the study ends, site2 lying so; nobody lies where there is no lie."""
    identities = {name: Identity.generate() for name in patients}
    roster = {name: identity.public_key.hex() for name, identity in identities.items()}
    sites = {
        name: site(name, identities[name], roster, cohort, lie if name == LIAR else None)
        for name, cohort in patients.items()
    }
    rounds = RoundLoop(
        study,
        registry.load(TASK),
        InProcessFleet(sites),
        roster,
        Listeners(),
        patience=Patience(answer=5.0, join=0.0, poll=0.0, failures=3),
    )
    try:
        outcome = rounds.run()
    except WardroundError as error:
        return "ended with a reason" if error.message else "ended without a reason"
    return f"{outcome.status}, with weights up to {np.abs(outcome.weights).max():.3g}"


def test_an_honest_study_is_finished(study: Study, patients: dict[str, Cohort]) -> None:
    assert end_of(study, patients, None).startswith("finished")


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(random_words, id="random words"),
        pytest.param(random_words_and_honest_guards, id="random words, honest guards"),
        pytest.param(shifted_words, id="2^29 on the update"),
    ],
)
def test_what_no_honest_hospital_sends_ends_the_study_with_a_reason(
    study: Study, patients: dict[str, Cohort], lie: Lie
) -> None:
    assert end_of(study, patients, lie) == "ended with a reason"
