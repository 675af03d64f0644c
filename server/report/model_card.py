"""What a reviewer reads first in MLflow: a study and its outcome in Markdown.

Only public facts of the study and pooled figures of the outcome; free text of the study is
escaped, since it is shown as Markdown in somebody's browser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from protocol.identity import Identity, fingerprint
from protocol.outcomes.binary import Binary
from protocol.outcomes.estimates import Estimate, shown
from protocol.outcomes.events import EventCount
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
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
from server.outcome import Baselines, OpenedScores, Outcome
from server.report import binary_evaluation, subgroups
from server.report.gates import judged
from server.report.privacy_statement import privacy_statement
from tasks import registry
from tasks.schema import Image, Schema

if TYPE_CHECKING:
    from tasks.base import Task

LIMIT = 7900
"""Characters; MLflow keeps 8000 of a tag."""
VERSION_LIMIT = 4900
"""Characters; MLflow's registry keeps 5000 of a version's description."""
WHOLE = "model_card.md"
"""The artifact with the whole card."""
_BASELINES = {
    "local": "one hospital alone, their mean",
    "federated": "all, by this study",
    "pooled": "all data in one place",
    "public": "nothing: a score from the literature",
}


@dataclass(frozen=True)
class Background:
    """What a card says beside a study and its outcome. launched_by: the account that submitted it
    to a coordinator, "" where none did; submitted: on which day (UTC). sweep: what it was chosen
    from, in words. earlier: what the coordinator's earlier studies of the same data add to its
    privacy cost, in words."""

    launched_by: str = ""
    baselines: Baselines | None = None
    sweep: str = ""
    earlier: str = ""
    submitted: str = ""


def describe(
    study: Study, outcome: Outcome | None = None, background: Background | None = None
) -> str:
    """The card of a running study, or of its outcome, as far as a tag of MLflow takes it."""
    return shortened(card(study, outcome, background), LIMIT)


def card(study: Study, outcome: Outcome | None = None, background: Background | None = None) -> str:
    """The whole card (fields of the CHAI applied model card and of AI Act Annex IV that apply)."""
    known = background or Background()
    if study.query is not None:
        parts = [
            _head(study, outcome, known),
            _asked(study, study.query),
            *([said] if (said := _permit(study)) else []),
            privacy_statement(study, outcome, known.earlier),
        ]
        if outcome is not None:
            if outcome.analysis is not None:
                parts.append(analysis_report.markdown(outcome.analysis))
            parts.append(markdown(outcome))
        return "\n\n".join(parts)
    task = registry.load(study.task.name, study.task.options)
    parts = [_head(study, outcome, known), _use(study, task)]
    if outcome is not None:
        parts += [_performance(outcome), subgroups.markdown(outcome)]
        parts += [_compared(outcome, known.baselines), _next(outcome, known)]
    parts += [
        _permit(study),
        privacy_statement(study, outcome, known.earlier),
        known.sweep,
        _patients(study),
        _training(study),
    ]
    if outcome is not None:
        parts += [_effort(outcome), _approved(outcome)]
    return "\n\n".join(part for part in [*parts, _inputs(task)] if part)


def shortened(text: str, limit: int) -> str:
    """A card within a limit, cut between two lines, which says where the rest is."""
    if len(text) <= limit:
        return text
    rest = f"\n\n*The rest is in the artifact `{WHOLE}`.*"
    return text[: limit - len(rest)].rpartition("\n")[0] + rest


def describe_model(
    outcome: Outcome,
    schema: Schema,
    signer: Identity | None = None,
    background: Background | None = None,
) -> str:
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
    return shortened(f"{usage}\n\n{card(outcome.study, outcome, background)}", VERSION_LIMIT)


def _signed(signer: Identity | None) -> str:
    if signer is None:
        return "**Not signed**: no coordinator ran this study."
    return f"Signed by the coordinator's key `{fingerprint(signer.public_key)}`."


def _head(study: Study, outcome: Outcome | None, known: Background) -> str:
    status = "running" if outcome is None else outcome.status
    unfinished = ""
    if outcome is not None and outcome.released == "unfinished":
        unfinished = (
            f"**Unfinished model:** the study ended after {outcome.rounds[-1].round} of "
            f"{study.optimisation.rounds} rounds, and nobody evaluated what they made.\n\n"
        )
    launched = "a run on one machine, without a coordinator"
    if known.launched_by:
        launched = f"account {as_markdown(known.launched_by)} of the coordinator"
    if known.submitted:
        launched += f" on {as_markdown(known.submitted)}"
    return (
        f"# {as_markdown(study.title)}\n\n{unfinished}"
        f"**Status:** {status} · **purpose:** {as_markdown(study.purpose)} · "
        f"**contact:** {as_markdown(study.contact)} · **launched by:** {launched}\n\n"
        f"**Code:** task `{study.task.name}` version {study.task.version}, source "
        f"`{study.task.source}`, {study.model.parameters:,} parameters.\n\n"
        f"Study `{study.digest}`: the document is the artifact `study.json`."
    )


def _use(study: Study, task: Task) -> str:
    """What the model is for, and what nobody has looked at."""
    schema = task.schema
    by = [one.name for one in study.evaluation.subgroups]
    unmeasured = "how well it does by sex, age, origin or hospital was not measured"
    if by:
        unmeasured = f"how well it does was measured by {as_markdown(', '.join(by))} alone"
    licence = f" Public data of the task: {as_markdown(task.licence)}." if task.licence else ""
    return (
        "## What it is for\n\n"
        f"{as_markdown(task.title)}. It predicts "
        f"{task.outcome.score_meaning.format(label=f'`{schema.label}`')} "
        f"({as_markdown(schema.label_meaning)}).\n\n"
        "**Intended use:** research, on patients like those of the sites named below, with the "
        "inputs listed at the end in their units. **Not for** the care of patients by itself: it "
        "is no medical device, and nobody has validated it elsewhere.\n\n"
        f"**Limits:** {unmeasured}; it was not measured "
        "how it changes with time. A value outside an input's range counts as the range's end."
        f"{licence} The model has no licence of its own: the sites' agreement decides."
    )


def _inputs(task: Task) -> str:
    """Every column with its unit and public range."""
    rows = [
        f"| `{column.name}` | {as_markdown(column.meaning)} | "
        + (
            f"{as_markdown(column.unit)} | {column.low:g} to {column.high:g} |"
            if column.kind == "number"
            else f"category | {as_markdown(', '.join(column.categories))} |"
        )
        for column in task.schema.columns
    ]
    rows += [
        f"| `{image.name}` | {_pictures_of(image)} | pixels | {image.rows} x {image.columns} |"
        for image in task.schema.images
    ]
    return "\n".join(
        ["## Inputs", "", "| input | meaning | unit | range |", "|---|---|---|---|", *rows]
    )


def _pictures_of(image: Image) -> str:
    """What a record has of it."""
    colour = "colour " * image.colour
    if image.spacing is not None:
        return f"{image.most} slices of a volume, {image.spacing:g} mm apart"
    if image.pooling is not None:
        return f"up to {image.most} {colour}pictures of a patient, pooled by their {image.pooling}"
    return f"{colour}picture"


def _permit(study: Study) -> str:
    """The permit that the study states; empty without one."""
    permit = study.permit
    if permit is None:
        return ""
    return (
        f"## Under which permit\n\n{as_markdown(permit.identifier)}, until {permit.expires}; legal "
        f"basis: {as_markdown(permit.legal_basis)}. It names "
        f"{as_markdown(', '.join(permit.persons))}; the study is signed by "
        f"{as_markdown(permit.person)} (key `{fingerprint(bytes.fromhex(permit.public_key))}`). "
        "Hospitals that demand a permit compare it with their own records at every sum."
    )


def _approved(outcome: Outcome) -> str:
    """How the sites accepted the study, as far as they have said."""
    by = outcome.approvals
    if not by.by_hand + by.by_rule:
        return "## Who agreed\n\nNo site has said how it agreed."
    silent = len(outcome.study.roster) - by.by_hand - by.by_rule
    rest = f"; {silent} took no part, or did not say" if silent else ""
    return (
        f"## Who agreed\n\n{by.by_hand} sites by the decision of a person, {by.by_rule} by their "
        f"rules{rest}."
    )


def _compared(outcome: Outcome, baselines: Baselines | None) -> str:
    """The study beside what else was trained, and beside no model at all; empty where it was not
    evaluated."""
    kind = outcome.study.outcome
    first = kind.compared[0]
    if first not in outcome.metrics:
        return ""
    known = {} if baselines is None else baselines.figures
    rows = [
        f"| {_BASELINES[which]} | {shown(of[first])} |"
        for which, of in known.items()
        if first in of
    ]
    if not rows:
        rows = [f"| {_BASELINES['federated']} | {shown(outcome.metrics[first].value)} |"]
    said = (
        "" if known else "\n\nWhat one hospital alone or pooled data would give was not compared."
    )
    return (
        "\n".join(
            [
                "## Against what",
                "",
                f"| trained on | {kind.metrics[first].label}, same patients |",
                "|---|---|",
                *rows,
                f"| nothing: all patients scored alike | {shown(kind.chance)} |",
            ]
        )
        + said
    )


def _next(outcome: Outcome, known: Background) -> str:
    """Which gates hold, and who decides."""
    gates = [
        f"- {gate.name} **{gate.verdict}**: {as_markdown(gate.says)}"
        for gate in judged(outcome, known.launched_by)
    ]
    if outcome.released != "finished":
        said = "No version is registered, and there is nothing to approve."
    elif not known.launched_by:
        said = (
            "No coordinator signed it, so that nobody can approve it. To have it used, launch the "
            "study at a coordinator."
        )
    else:
        said = (
            "A reviewer who did not launch it approves or rejects the registered version "
            "(`wardround review`). Until then it is a candidate; the decision, by whom and why, is "
            "the version's tag `wardround.verdict`."
        )
    stated = "The study stated no gates before it began." if not gates else "\n".join(gates)
    return f"## What next\n\n{stated}\n\n{said}"


def _asked(study: Study, query: Query) -> str:
    return (
        f"## What was asked\n\n{len(query.statistics)} statistics of "
        f"{as_markdown(question(query))}, at {len(study.roster)} sites that declare about "
        f"{study.patients():,} patients. The sites share {query.mechanism} noise, and counts below "
        f"{query.least_count} are not shown."
    )


def _patients(study: Study) -> str:
    """Sites by number: their names are in the study."""
    return (
        "## What it learned from\n\n"
        f"About {study.patients():,} patients for training, as declared by {len(study.roster)} "
        "sites. The sites declare banded numbers; nothing was counted for this."
    )


def _training(study: Study) -> str:
    """What a reader must know of the algorithm to read the figures; empty where nothing."""
    local, robust, stop = (
        study.optimisation.local,
        study.aggregation.robust,
        study.optimisation.stop,
    )
    lines = [_started(study)] if study.start is not None else []
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


def _started(study: Study) -> str:
    start = study.start
    if start is None:
        return ""
    return (
        f"It was not trained from nothing: round 1 began with the weights `{start.weights}` of "
        f"`{as_markdown(start.model)}` (record `{start.record}`), which study `{start.study}` "
        "released. Patients who evaluate here may have trained that model, where the studies do "
        "not set the same patients apart: the figures are then too good."
    )


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
    said = (
        f"## How well it does\n\nOn the sites' evaluation patients, pooled.\n\n{table}\n\n{caution}"
    )
    return (
        said
        if outcome.scores is None
        else f"{said}\n\n{_evaluation(outcome.study, outcome.scores)}"
    )


def _evaluation(study: Study, opened: OpenedScores) -> str:
    match study.outcome:
        case Binary():
            return binary_evaluation.markdown(opened)
        case (
            Multiclass()
            | MultiLabel()
            | Ordinal()
            | Regression()
            | EventCount()
            | TimeToEvent()
            | Segmentation()
        ):
            return ""
        case never:
            assert_never(never)


def _row(name: str, of: Estimate) -> str:
    return f"| {name} | **{shown(of.value)}** | {shown(of.low)} to {shown(of.high)} |"


def _effort(outcome: Outcome) -> str:
    done, planned = len(outcome.rounds), outcome.study.optimisation.rounds
    present = [report.participants for report in outcome.rounds] or [0]
    return (
        f"## What it took\n\n{done} of {planned} rounds, {min(present)} to {max(present)} sites in "
        f"each, {outcome.seconds:,.0f} s; "
        f"{outcome.bytes_sent / 1e6:,.1f} MB sent, {outcome.bytes_received / 1e6:,.1f} MB received."
    )
