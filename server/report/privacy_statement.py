"""What a study cost in privacy, in the terms of NIST SP 800-226 (Guidelines for Evaluating
Differential Privacy Guarantees, March 2025), as Markdown.

Every number is of the study's own plan or of the attempts that were counted; epsilon is printed
rounded up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from protocol.models.starting_model import carried
from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.releases import assumption, evaluation_event, max_evaluations, training_event
from protocol.study.study import Study
from protocol.terminal.printable import as_markdown
from server.outcome import Outcome


def privacy_statement(study: Study, outcome: Outcome | None, earlier: str = "") -> str:
    """The bound, whom it is for and whom it leaves out; then a row for each thing that the
    guidelines ask. outcome: None while the study runs. earlier: what the coordinator's earlier
    studies add to it, in words (`earlier_studies`)."""
    lines = ["## What it cost in privacy", *_bound(study, outcome)]
    if study.privacy.epsilon is not None:
        lines.append(assumption(study))
    if outcome is not None:
        lines.append(f"**Not covered:** {as_markdown(outcome.uncovered) or 'nobody.'}")
    if not study.aggregation.masked:
        counted = " Epsilon counts each of these by itself." if study.privacy.epsilon else ""
        lines.append(f"Sums were **not masked**: the coordinator saw what each site sent.{counted}")
    if study.privacy.epsilon is not None:
        rows = [f"| {asked} | {answer} |" for asked, answer in _rows(study, outcome, earlier)]
        lines.append("\n".join(["| asked by NIST SP 800-226 | answer |", "|---|---|", *rows]))
    return "\n\n".join(lines)


def _bound(study: Study, outcome: Outcome | None) -> Iterator[str]:
    plan = study.privacy
    if plan.epsilon is None:
        yield "**No differential privacy** was asked for: no epsilon bounds what it tells."
    elif not plan.traits.private:
        spent = plan.epsilon if outcome is None else outcome.epsilon
        yield (
            "**No differential privacy** in training. Evaluation alone: epsilon "
            f"**{rounded_up(spent)}** at delta {plan.delta:g} for each patient who evaluates."
        )
    elif outcome is None or outcome.epsilon is None:
        yield f"Planned: at most epsilon **{rounded_up(plan.epsilon)}** at delta {plan.delta:g}."
    else:
        yield (
            f"Epsilon **{rounded_up(outcome.epsilon)}** at delta {plan.delta:g} for each patient "
            f"covered, mode `{plan.mode}`."
        )
    if outcome is not None and outcome.epsilon_broken is not None:
        yield (
            f"Were more of the sites than {study.aggregation.colluding_sites} to collude with the "
            f"coordinator, it would be {rounded_up(outcome.epsilon_broken)}."
        )


def _rows(study: Study, outcome: Outcome | None, earlier: str) -> Iterator[tuple[str, str]]:
    sites = study.privacy.sites_per_patient
    yield "unit of privacy", f"a patient: all records of one at no more than {sites} of the sites"
    yield "neighbouring data sets", "with and without one patient"
    yield "mechanism", "; ".join(_mechanisms(study))
    yield "composition", _composition(study, outcome)
    if study.start is not None:
        yield "composition with the model it starts from", _carried(study)
    if earlier:
        yield "composition with earlier studies", as_markdown(earlier)
    yield "trust", _trust(study)
    yield "released", _released(study, outcome)
    yield (
        "not covered",
        "how long a site computes; what is chosen by looking at results of other studies",
    )


def _mechanisms(study: Study) -> Iterator[str]:
    plan = study.privacy
    if training_event(study) is not None:
        match plan.traits.training:
            case "plain_steps":
                noise = "no noise"
            case "dp_sgd":
                noise = "Gaussian noise at every site, on each step"
            case "clipped_sum":
                noise = "Skellam noise, of which every site adds a share, on each sum"
            case never:
                assert_never(never)
        yield (
            f"training: {noise}, multiplier {plan.noise_multiplier:.4g}, clip norm "
            f"{plan.clip_norm:g}, Poisson sampling at rate {plan.sampling_rate:g}"
        )
    if (scored := evaluation_event(study)) is not None:
        what = "answers" if study.query is not None else "score histograms"
        each = ""
        if study.evaluation.subgroups:
            each = f", {study.evaluation.releases} of them an evaluation (all, and by subgroup)"
        yield (
            f"{what}: {scored.mechanism.replace('_', ' ')} noise, multiplier "
            f"{study.evaluation.noise_multiplier:.4g}{each}"
        )
    if study.evaluation.exact:
        yield "score histograms: exact, under no epsilon"


def _composition(study: Study, outcome: Outcome | None) -> str:
    attempts = study.aggregation.attempts
    counted = f"all of the at most {attempts} attempts, opened or lost"
    if outcome is not None:
        counted = f"every attempt made of the {attempts} planned, opened or lost"
    return (
        f"{counted}, at most {max_evaluations(study)} of them scoring; with other studies, queries "
        "and sweeps in the ledger of each site, not here"
    )


def _carried(study: Study) -> str:
    """Sequential composition, for whoever is a patient of both; under each one's own trust."""
    epsilon, delta = carried(study)
    if epsilon is None or delta is None:
        return "no epsilon covers every patient of both"
    return (
        f"of a patient of both, at most epsilon {rounded_up(epsilon)} at delta {delta:g}: the sum "
        "of the plans of all studies it comes from, each under the trust that its own card states"
    )


def _trust(study: Study) -> str:
    if not study.privacy.traits.shares_noise:
        return "in nobody outside the site: each adds all the noise itself"
    if not study.aggregation.masked:
        return "in whoever sees the sites' shares, for what epsilon does not count"
    return (
        f"at most {study.aggregation.colluding_sites} sites collude with the coordinator; at least "
        f"{study.aggregation.least_sites} are in a sum"
    )


def _released(study: Study, outcome: Outcome | None) -> str:
    made = "" if outcome is None else f" ({len(outcome.rounds)} so far were completed)"
    rounds = study.optimisation.rounds
    if study.query is not None:
        return "the noised answers"
    return f"to the coordinator the sum of each of {rounds} rounds{made}; the last model to readers"
