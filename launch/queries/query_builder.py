"""Builds the study that asks a question within a privacy budget, with the least noise.

Two kinds of noise are tried, and the one whose 95% interval is narrower is taken: discrete Laplace
noise (pure epsilon, split evenly over the statistics) for a few statistics, Skellam noise (at
delta) for many.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from launch.queries.question import Question
from protocol.document import first_fault
from protocol.errors import Code, WardroundError
from protocol.privacy.calibration import patient_scale, with_noise, with_words
from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.events import noise_in_words
from protocol.privacy.query_noise import half_width_of_counts
from protocol.privacy.releases import assumption, planned_broken_epsilon
from protocol.study.exact_analysis import (
    EXACT_TITLE,
    AnyExact,
    ExactAnalysis,
    fraction_bits,
    honest,
)
from protocol.study.privacy_mode import QUERY_MODE
from protocol.study.query import Query, Scored, SharedNoise
from protocol.study.study import (
    Aggregation,
    Evaluation,
    Member,
    Model,
    Optimisation,
    Privacy,
    Study,
)
from protocol.terminal.study_texts import check_texts
from protocol.vectors import EMPTY
from tasks import registry


@dataclass(frozen=True)
class Price:
    """epsilon at delta for each patient of each site, all attempts together. attempts: how often
    the sum may be tried; a second one is only needed if a site drops out in the middle of the
    first, and halves what each may spend. mechanism: None takes the better one. sites_per_patient:
    at how many of the sites one patient may be; nobody can check it."""

    epsilon: float = 0.5
    delta: float = 1e-5
    purpose: str = "research"
    contact: str = ""
    attempts: int = 1
    least_sites: int | None = None
    colluding_sites: int = 1
    mechanism: SharedNoise | None = None
    sites_per_patient: int = 1


USUAL = Price()


def build_query(question: Question, patients: Mapping[str, int], price: Price = USUAL) -> Study:
    """patients: site -> as it declares. Spends nothing.

    Raises WardroundError: CONFIGURATION, EPSILON_UNREACHABLE, REFUSED_STUDY.
    """
    if not question.statistics:
        raise WardroundError(
            Code.CONFIGURATION, "The question asks nothing.", remedy="Add a count or a histogram."
        )
    if len(patients) < 3:
        raise WardroundError(
            Code.TOO_FEW_SITES,
            f"A query is summed over 3 sites or more; here are {len(patients)}.",
            remedy="With fewer, each could subtract its own counts and see the other's.",
        )
    wanted: tuple[SharedNoise, ...] = (
        (price.mechanism,) if price.mechanism else get_args(SharedNoise)
    )
    priced: list[Study] = []
    trouble: WardroundError | None = None
    for mechanism in wanted:
        try:
            priced.append(_built(question, patients, price, mechanism))
        except WardroundError as error:
            trouble = trouble or error
        except ValidationError as error:
            where, what, _ = first_fault(error)
            trouble = trouble or WardroundError(
                Code.CONFIGURATION,
                f"The query is not valid: {where + ': ' if where else ''}{what}.",
                remedy="Ask fewer or coarser statistics, or check the options.",
            )
    if not priced:
        raise trouble or WardroundError(Code.INTERNAL, "No noise was tried.")
    check_texts(priced[0])
    return min(priced, key=half_width_of_counts)


def _built(
    question: Question, patients: Mapping[str, int], price: Price, mechanism: SharedNoise
) -> Study:
    query = Query(
        where=question.where,
        statistics=question.statistics,
        mechanism=mechanism,
        least_count=question.least_count,
        scored=question.scored,
    )
    draft = Study(
        title=question.title or f"A question about {question.task.name}",
        purpose=price.purpose,
        contact=price.contact or _user(),
        nonce=secrets.token_hex(8),
        task=registry.reference_to(question.task),
        model=Model(parameters=0, layout=EMPTY.digest),
        privacy=Privacy(
            mode=QUERY_MODE,
            noise_multiplier=1.0,
            delta=price.delta,
            epsilon=price.epsilon,
            sites_per_patient=price.sites_per_patient,
        ),
        optimisation=Optimisation(rounds=0),
        aggregation=Aggregation(
            least_sites=price.least_sites or 3,
            colluding_sites=price.colluding_sites,
            attempts=price.attempts,
        ),
        evaluation=Evaluation(noise_multiplier=1.0, scale=patient_scale(query)),
        roster=tuple(Member(name=site, patients=patients[site]) for site in sorted(patients)),
        query=query,
        analysis=question.analysis,
        expires="" if question.scored is None else _kept_until(question.scored),
    )
    priced = with_words(with_noise(draft, price.epsilon))
    return priced if question.exact is None else _fitting(priced, question.exact)


def _fitting(study: Study, analysis: AnyExact) -> Study:
    """The query of an exact analysis with the analysis itself, whose sums take words of 64 bits."""
    sites, iterates = len(study.roster), analysis.iterates
    attempts = study.aggregation.attempts + iterates
    largest = max(member.patients for member in study.roster)
    if isinstance(analysis, ExactAnalysis):
        bits = fraction_bits(analysis, largest, sites)
        analysis = analysis.model_copy(update={"fraction_bits": bits})
    changed = {
        "optimisation": Optimisation(rounds=iterates),
        "aggregation": study.aggregation.model_copy(
            update={"word_bits": 64, "attempts": attempts, "least_sites": sites}
        ),
        "exact": analysis,
        "title": f"{study.title} ({EXACT_TITLE})",
    }
    return Study.model_validate(study.model_dump() | changed)


def cost(study: Study) -> str:
    """What a query costs a patient, on which assumption, and how close its answers will be."""
    query = study.query
    if query is None:
        raise WardroundError(Code.INTERNAL, "A study that trains is no query.")
    broken = planned_broken_epsilon(study, study.privacy.delta)
    whose = "each site's own counts" if query.compares_sites else "the counts"
    return (
        f"{len(query.statistics)} statistics, {query.cells} cells, at {len(study.roster)} sites. "
        f"It costs each patient there epsilon {rounded_up(study.privacy.epsilon)} at delta "
        f"{study.privacy.delta:g} ({rounded_up(broken)} if secure aggregation were broken). 95% of "
        f"{whose} will be within {half_width_of_counts(study):.3g} of the truth "
        f"({noise_in_words(query.mechanism)} noise). {assumption(study)}{_without_noise(study)}"
    )


def _without_noise(study: Study) -> str:
    if study.exact is None:
        return ""
    sums = f"up to {study.exact_attempts} sums without noise"
    counted = "each of which counts as an exact release at every site"
    return f" Then {sums}, {counted}. {honest(study.exact)}"


def _kept_until(scored: Scored) -> str:
    """To which day sites keep the budget of a period that is not over yet: two months after it."""
    year, month = map(int, scored.until.split("-"))
    year, month = year + (month + 2) // 12, (month + 2) % 12 + 1
    return f"{year:04}-{month:02}-01"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
