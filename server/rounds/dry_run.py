"""A dry run: asks sites how they would answer a study, without proposing it, and counts answers.

What a data scientist learns: how many sites would accept, how many wait for a person, how many
refuse and by which rules of their policies. Never which site it was: a rule says what a hospital
allows, and that is between the hospital and whom it tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from protocol.privacy.word_size import check_headroom
from protocol.study.study import Study
from server.rounds.attempt import Traffic
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience, Proposal
from server.rounds.transport import Fleet

ANSWERS = ("accepted", "waiting", "refused", "away")


def dry_run(
    study: Study, fleet: Fleet, identities: Mapping[str, str], patience: Patience
) -> dict[str, Any]:
    """`answers`: how many sites accept at once, wait for a person, refuse, are away. `rules` and
    `codes`: why those that refuse do, with how many sites.

    Raises WardroundError: CONFIGURATION where the study's sums would wrap, IDENTITY.
    """
    check_headroom(study)
    proposal = Proposal(study, fleet, Listeners(), Traffic(), patience, lambda: None, identities)
    here = fleet.online() & set(study.sites)
    standings = [answer.standing for answer in proposal.ask(here, dry=True).values()]
    answers = Counter[str](standing.state for standing in standings)
    answers["away"] = len(study.sites) - len(standings)
    rules = Counter(rule for standing in standings for rule in set(standing.rules))
    codes = Counter(standing.code.value for standing in standings if standing.code is not None)
    return {
        "answers": {name: answers[name] for name in ANSWERS},
        "rules": dict(rules),
        "codes": dict(codes),
    }
