"""What a reviewer reads first in MLflow: a study and its outcome in Markdown.

Only public facts of the study and pooled figures of the outcome; free text of the study is
escaped, since it is shown as Markdown in somebody's browser.
"""

from __future__ import annotations

from typing import assert_never

from protocol.identity import Identity, fingerprint
from protocol.outcomes.estimates import Estimate
from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.releases import assumption
from protocol.study.algorithms import (
    DittoOptions,
    FedAvgOptions,
    FedBNOptions,
    FedProxOptions,
    ScaffoldOptions,
)
from protocol.study.query import Query
from protocol.study.study import Study
from protocol.terminal.printable import as_markdown
from server.answers import analysis_report
from server.answers.query_report import markdown, question
from server.outcome import Outcome
from tasks.schema import Schema

LIMIT = 7900
"""Characters; MLflow keeps 8000 of a tag."""
VERSION_LIMIT = 4900
"""Characters; MLflow's registry keeps 5000 of a version's description."""
_SHOWN_SITES = 30


def describe(study: Study, outcome: Outcome | None = None) -> str:
    """Markdown of a running study, or of its outcome."""
    if study.query is not None:
        asked = [_head(study, outcome), _asked(study, study.query), _privacy(study, outcome)]
        if outcome is None:
            return "\n\n".join(asked)[:LIMIT]
        read = [] if outcome.analysis is None else [analysis_report.markdown(outcome.analysis)]
        return "\n\n".join([*asked, *read, markdown(outcome)])[:LIMIT]
    parts = [_head(study, outcome), _patients(study), _training(study), _privacy(study, outcome)]
    if outcome is not None:
        parts += [_performance(outcome), _effort(outcome)]
    return "\n\n".join(part for part in parts if part)[:LIMIT]


def describe_model(outcome: Outcome, schema: Schema, signer: Identity | None = None) -> str:
    """Markdown of a model version: how to score with it, who signed it, and what it claims."""
    numbers = [c.name for c in schema.columns if c.kind == "number"]
    cast = (
        '"float64"' if len(numbers) == len(schema.columns) else f"dict.fromkeys({numbers!r}, float)"
    )
    kind = outcome.study.outcome
    names = [f"`{name}`" for name in kind.score_columns]
    said = "is " if len(names) == 1 else "are "
    said += kind.score_meaning.format(label=f"`{schema.label}`")
    columns = (
        f"The answer's column {names[0]}"
        if len(names) == 1
        else f"The answer's columns {names[0]} to {names[-1]}"
    )
    usage = f"""## How to score with it

```python
scores = wardround.load(uri).predict(frame.astype({cast}))
```

`frame` has the {len(schema.columns)} columns of the signature: numbers as floats, categories as
texts, NaN or None where a value is missing. {columns} {said}
({as_markdown(schema.label_meaning)}). wardround must be installed.

{_signed(signer)} `wardround.load` and `wardround models verify` check every file against the
version's record before they use it, and run nothing that came with it; `mlflow.pyfunc.load_model`
runs whatever lies in the artifact store."""
    return f"{usage}\n\n{describe(outcome.study, outcome)}"[:VERSION_LIMIT]


def _signed(signer: Identity | None) -> str:
    if signer is None:
        return "**Not signed**: no coordinator ran this study."
    return f"Signed by the coordinator's key `{fingerprint(signer.public_key)}`."


def _head(study: Study, outcome: Outcome | None) -> str:
    status = "running" if outcome is None else outcome.status
    unfinished = ""
    if outcome is not None and outcome.released == "unfinished":
        unfinished = (
            f"**Unfinished model:** the study ended after {outcome.rounds[-1].round} of "
            f"{study.optimisation.rounds} rounds, and nobody evaluated what they made.\n\n"
        )
    return (
        f"# {as_markdown(study.title)}\n\n{unfinished}"
        f"**Status:** {status} · **purpose:** {as_markdown(study.purpose)} · "
        f"**contact:** {as_markdown(study.contact)}\n\n"
        f"Task `{study.task.name}` version {study.task.version}, "
        f"{study.model.parameters:,} parameters.\n\n"
        f"Study `{study.digest}`: the document is the artifact `study.json`."
    )


def _asked(study: Study, query: Query) -> str:
    return (
        f"## What was asked\n\n{len(query.statistics)} statistics of "
        f"{as_markdown(question(query))}, at {len(study.roster)} sites that declare about "
        f"{study.patients():,} patients. The sites share {query.mechanism} noise, and counts below "
        f"{query.least_count} are not shown."
    )


def _patients(study: Study) -> str:
    names = [f"`{name}`" for name in study.sites]
    more = f" and {len(names) - _SHOWN_SITES} more" if len(names) > _SHOWN_SITES else ""
    return (
        "## What it learned from\n\n"
        f"About {study.patients():,} patients for training, as declared by "
        f"{len(names)} sites: {', '.join(names[:_SHOWN_SITES])}{more}. The sites declare banded "
        "numbers; nothing was counted for this."
    )


def _training(study: Study) -> str:
    """What a reader must know of the algorithm to read the figures; empty where nothing."""
    local, robust, stop = (
        study.optimisation.local,
        study.aggregation.robust,
        study.optimisation.stop,
    )
    lines = []
    match local:
        case FedAvgOptions():
            pass
        case FedProxOptions() | ScaffoldOptions():
            lines.append(f"The sites trained by `{local.name}`.")
        case FedBNOptions():
            lines.append(
                "Each site trained normalisation layers of its own, which never left it (`fedbn`): "
                "**in the released model they have their initial values**, and the figures below "
                "are scored with each site's own."
            )
        case DittoOptions():
            lines.append(
                "Each site also trained a model of its own, which never left it (`ditto`). The "
                "figures below are "
                + (
                    "**of the sites' own models, not of the released one**."
                    if local.scores_own
                    else "of the released one."
                )
            )
        case never:
            assert_never(never)
    if robust is not None:
        lines.append(
            f"Their updates were seen and combined by `{robust.name}`, not averaged, each site "
            "counting equally."
        )
    if stop is not None:
        lines.append(
            f"It was to stop after {stop.patience} evaluations without a better pooled "
            f"{stop.metric.replace('_', ' ')}, and then to release the best model scored."
        )
    return "\n\n".join(["## How it was trained", *lines]) if lines else ""


def _privacy(study: Study, outcome: Outcome | None) -> str:
    plan = study.privacy
    lines = ["## What it cost in privacy"]
    if plan.epsilon is None:
        lines.append("**No differential privacy** was asked for: no epsilon bounds what it tells.")
    elif not plan.traits.private:
        spent = plan.epsilon if outcome is None else outcome.epsilon
        lines.append(
            "**No differential privacy** in training. Evaluation alone: epsilon "
            f"**{rounded_up(spent)}** at delta {plan.delta:g} for each patient who evaluates."
        )
    elif outcome is None or outcome.epsilon is None:
        lines.append(
            f"Planned: at most epsilon **{rounded_up(plan.epsilon)}** at delta {plan.delta:g}."
        )
    else:
        lines.append(
            f"Epsilon **{rounded_up(outcome.epsilon)}** at delta {plan.delta:g} for each patient "
            f"covered, mode `{plan.mode}` (noise multiplier {plan.noise_multiplier:.4g}, "
            f"clip norm {plan.clip_norm:g}, sampling rate {plan.sampling_rate:g})."
        )
    if outcome is not None and outcome.epsilon_broken is not None:
        lines.append(
            f"Were more of the sites than {study.aggregation.colluding_sites} to collude with the "
            f"coordinator, it would be {rounded_up(outcome.epsilon_broken)}."
        )
    if plan.epsilon is not None:
        lines.append(assumption(study))
    if outcome is not None:
        lines.append(f"**Not covered:** {as_markdown(outcome.uncovered) or 'nobody.'}")
    if not study.aggregation.masked:
        counted = " Epsilon counts each of these by itself." if plan.epsilon is not None else ""
        lines.append(f"Sums were **not masked**: the coordinator saw what each site sent.{counted}")
    return "\n\n".join(lines)


def _performance(outcome: Outcome) -> str:
    rows = [_row(name, of) for name, of in sorted(outcome.metrics.items())]
    if not outcome.study.evaluation.takes_place:
        return "## How well it does\n\nIt was not evaluated within the study."
    if not rows:
        return "## How well it does\n\nThe study ended before its model was evaluated."
    table = "\n".join(["| pooled metric | value | 95% interval |", "|---|---|---|", *rows])
    caution = (
        "The histogram of scores was noised for privacy; the intervals include that noise."
        if outcome.study.evaluation.noised
        else "The histogram of scores was summed exactly."
    )
    return (
        f"## How well it does\n\nOn the sites' evaluation patients, pooled.\n\n{table}\n\n{caution}"
    )


def _row(name: str, of: Estimate) -> str:
    return f"| {name} | **{of.value:.4g}** | {of.low:.4g} to {of.high:.4g} |"


def _effort(outcome: Outcome) -> str:
    done, planned = len(outcome.rounds), outcome.study.optimisation.rounds
    present = [report.participants for report in outcome.rounds] or [0]
    return (
        f"## What it took\n\n{done} of {planned} rounds, {min(present)} to {max(present)} sites in "
        f"each, {outcome.seconds:,.0f} s; "
        f"{outcome.bytes_sent / 1e6:,.1f} MB sent, {outcome.bytes_received / 1e6:,.1f} MB received."
    )
