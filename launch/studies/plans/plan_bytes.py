"""How many bytes a study moves, from its own messages: built, measured, never sent."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire import messages
from protocol.wire.sizes import answer_size, question_size

_DIGEST = "0" * 64


@dataclass(frozen=True)
class PlannedTraffic:
    """Bytes between the coordinator and one site over a study that loses no attempt, transport
    overhead not counted."""

    to_site: int
    from_site: int

    def seconds(self, line: float) -> float:
        """That a site's line of so many bytes a second needs for them."""
        return (self.to_site + self.from_site) / line


def traffic(study: Study) -> PlannedTraffic:
    """The whole study's, with every site in every round."""
    propose = messages.Propose(document=study.document.decode(), roster=_DIGEST)
    to_site, from_site = messages.frame(propose).size, _standing(study)
    rounds = study.optimisation.rounds
    for round_ in range(1, rounds + 1 + study.evaluation.takes_place):
        sections = Sections(study, train=round_ <= rounds, evaluate=study.evaluates(round_))
        there, back = _attempt(study, sections, round_)
        to_site, from_site = to_site + there, from_site + back
    return PlannedTraffic(to_site, from_site)


def _standing(study: Study) -> int:
    return messages.frame(messages.Standing(study=study.digest, state="accepted")).size


def _attempt(study: Study, sections: Sections, round_: int) -> tuple[int, int]:
    where = {"study": study.digest, "round": round_, "attempt": round_}
    prepare = messages.Prepare.model_validate(
        where | {"train": sections.train, "evaluate": sections.evaluate, "model": _DIGEST}
    )
    readys = tuple(
        messages.Ready.model_validate(
            where
            | {"site": site, "context": _DIGEST, "public_key": _DIGEST, "signature": "0" * 128}
        )
        for site in study.sites
    )
    collect = messages.Collect.model_validate(where | {"readys": readys})
    share = messages.Share.model_validate(where)
    there = messages.frame(prepare).size + question_size(sections) + messages.frame(collect).size
    longest = max(messages.frame(ready).size for ready in readys)
    return there, longest + messages.frame(share).size + answer_size(sections)
