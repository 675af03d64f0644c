"""Builds the study that asks a question within a privacy budget, with the least noise.

Two kinds of noise are tried, and the one whose 95% interval is narrower is taken: discrete Laplace
noise (pure epsilon, split evenly over the statistics) for a few statistics, Skellam noise (at
delta) for many.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never, get_args

from pydantic import ValidationError

from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import calibrate, epsilon_over_bands
from protocol.privacy.events import Event, noise_in_words
from protocol.privacy.query_noise import half_width
from protocol.privacy.releases import planned_broken_epsilon, planned_events
from protocol.privacy.word_size import word_bits_needed
from protocol.study.privacy_mode import QUERY_MODE
from protocol.study.query import Mean, Query, SharedNoise
from protocol.study.study import (
    Aggregation,
    Evaluation,
    Member,
    Model,
    Optimisation,
    Privacy,
    Study,
    TaskReference,
)
from protocol.vectors import EMPTY


@dataclass(frozen=True)
class Price:
    """epsilon at delta for each patient of each site, all attempts together. attempts: how often
    the sum may be tried; a second one is only needed if a site drops out in the middle of the
    first, and halves what each may spend. mechanism: None takes the better one."""

    epsilon: float = 0.5
    delta: float = 1e-5
    purpose: str = "research"
    contact: str = ""
    attempts: int = 1
    least_sites: int | None = None
    colluding_sites: int = 1
    mechanism: SharedNoise | None = None


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
    found: list[Study] = []
    trouble: WardroundError | None = None
    for mechanism in wanted:
        try:
            found.append(_built(question, patients, price, mechanism))
        except WardroundError as error:
            trouble = trouble or error
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            trouble = trouble or WardroundError(
                Code.CONFIGURATION,
                f"The query is not valid: {where + ': ' if where else ''}{first['msg']}.",
                remedy="Ask fewer or coarser statistics, or check the options.",
            )
    if not found:
        raise trouble or WardroundError(Code.INTERNAL, "No noise was tried.")
    return min(found, key=lambda study: half_width(study, len(study.roster)))


def _built(
    question: Question, patients: Mapping[str, int], price: Price, mechanism: SharedNoise
) -> Study:
    query = Query(
        where=question.where,
        statistics=question.statistics,
        mechanism=mechanism,
        least_count=question.least_count,
    )
    scale = _scale(query)
    event = Event(
        mechanism,
        noise_multiplier=1.0,
        count=len(query.statistics) * price.attempts,
        dimension=query.largest,
        scale=float(scale),
        rounding="none",
    )
    multiplier = _multiplier(event, query.mechanism, price)
    least = price.least_sites or 3
    plain: dict[str, Any] = {
        "title": question.title or f"A question about {question.task.name}",
        "purpose": price.purpose,
        "contact": price.contact or _user(),
        "nonce": secrets.token_hex(8),
        "task": TaskReference(
            name=question.task.name,
            version=question.task.version,
            source=question.task.source_digest(),
            options={
                option: value
                for option, value in question.task.options.items()
                if value != question.task.choices[option][0]
            },
        ),
        "model": Model(parameters=0, layout=EMPTY.digest),
        "privacy": Privacy(
            mode=QUERY_MODE,
            noise_multiplier=multiplier,
            delta=price.delta,
            epsilon=price.epsilon,
        ),
        "optimisation": Optimisation(rounds=0),
        "aggregation": Aggregation(
            least_sites=least, colluding_sites=price.colluding_sites, attempts=price.attempts
        ),
        "evaluation": Evaluation(noise_multiplier=multiplier, scale=scale),
        "roster": tuple(Member(name=site, patients=patients[site]) for site in sorted(patients)),
        "query": query,
    }
    study = Study(**plain)
    spent = epsilon_over_bands(planned_events(study), price.delta)
    claimed = study.privacy.model_dump() | {"epsilon": max(price.epsilon, spent)}
    words = study.aggregation.model_copy(update={"word_bits": word_bits_needed(study)})
    return Study(**plain | {"privacy": Privacy(**claimed), "aggregation": words})


def _scale(query: Query) -> int:
    """Integers that a patient is."""
    match query.mechanism:
        case "laplace":  # a mean needs a finer grid than 1
            return 8 if any(isinstance(one, Mean) for one in query.statistics) else 1
        case "skellam":
            return 256
    assert_never(query.mechanism)


def _multiplier(event: Event, mechanism: SharedNoise, price: Price) -> float:
    found = calibrate(price.epsilon, price.delta, event)
    match mechanism:
        case "skellam":
            return found
        case "laplace":  # where pure epsilons just add up, to the last digit
            exact = replace(event, noise_multiplier=event.count / price.epsilon)
            fits = epsilon_over_bands([exact], price.delta) <= price.epsilon
            return min(found, exact.noise_multiplier) if fits else found
    assert_never(mechanism)


def cost(study: Study) -> str:
    """What a query costs a patient at each of its sites, and how close its answers will be."""
    query = study.query
    if query is None:
        raise WardroundError(Code.INTERNAL, "A study that trains is no query.")
    broken = planned_broken_epsilon(study, study.privacy.delta)
    width = half_width(study, len(study.roster))
    return (
        f"{len(query.statistics)} statistics, {query.cells} cells, at {len(study.roster)} sites. "
        f"It costs each patient there epsilon {study.privacy.epsilon:.4g} at delta "
        f"{study.privacy.delta:g} ({broken:.3g} if secure aggregation were broken). 95% of the "
        f"counts will be within {width:.3g} of the truth ({noise_in_words(query.mechanism)} noise)."
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
