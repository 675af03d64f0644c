"""personal, predict: this site's own models, and what released ones say of its patients."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from client.cli.options import HERE, Config, governing, load, progress_bars
from protocol.terminal.command_line import Json, console, print_json, print_result
from protocol.terminal.printable import printable

_METRICS = ("auc", "accuracy")


def personal(config: Config = HERE, as_json: Json = False) -> None:
    """List this site's own models: of studies by ditto or fedbn, one each, that never left it.

    After a study by ditto or fedbn, to see whether this site's own model does better here than the
    released one. weights.npy is laid out as the released model is; study.json beside it says what
    it is. The figures are on this site's own patients, and nobody else has seen them.

    Example: wardround-site personal --json
    """
    from client.training.algorithm_state import PERSONAL

    folder = load(config).state / PERSONAL
    models = [_described(path) for path in sorted(folder.glob("*/study.json"))]
    if as_json:
        print_json(models)
        return
    if not models:
        typer.echo("This site has no models of its own: no study by ditto or fedbn has finished.")
        return
    from rich.table import Table

    table = Table("study", "task", "algorithm", box=None)
    for metric in _METRICS:
        table.add_column(f"{metric}, own (released)")
    table.add_column("title")
    for model in models:
        figures = [_own_and_released(model["figures"], metric) for metric in _METRICS]
        title = printable(model["title"])[:60]
        table.add_row(model["study"][:12], model["task"], model["algorithm"], *figures, title)
    console().print(table)
    typer.echo(f"\nEach is in {folder}/STUDY/weights.npy, readable by this site's user alone.")


def _described(path: Path) -> dict[str, Any]:
    from client.training.algorithm_state import figures_of
    from protocol.study.study import Study

    study = Study.parse(path.read_bytes())
    return {
        "study": study.digest,
        "title": study.title,
        "task": study.task.name,
        "algorithm": study.optimisation.local.name,
        "weights": str(path.with_name("weights.npy")),
        "figures": figures_of(path.parent),
    }


def _own_and_released(figures: dict[str, Any], metric: str) -> str:
    values = (figures.get(name, {}).get(metric) for name in ("own", "released"))
    own, released = ("-" if value is None else f"{value:.3f}" for value in values)
    return f"{own} ({released})"


def predict(
    model: Annotated[Path, typer.Option(help="The bundle: a file that `wardround export` wrote.")],
    which: Annotated[str, typer.Option("--for", help="cohort, new, or an accession number.")],
    to: Annotated[
        Path,
        typer.Option(
            help="What to write: a file .csv, .parquet or .ndjson (FHIR R4), or a new folder for "
            "DICOM reports."
        ),
    ],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Score this site's patients with a released model, for this hospital's own use.

    Once a reviewer approved the model and policy.predict in site.yaml allows it. cohort: all that
    the task's view selects or, for pictures, all that are ready; new: those of them that this model
    has not scored before. What is written names patients: it is for this site's user alone (0600).
    Nothing is sent to anybody; the audit log notes model and counts, and nobody's score.

    Example: wardround-site predict --model heart.safetensors --for new --to scores.csv
    """
    from client.config.resource_limits import limit_threads
    from client.governance.audit_replay import AuditEvent
    from client.prediction import results
    from client.prediction.allowed_model import AllowedModel
    from client.prediction.predictions import predict as scores_of
    from client.prediction.scored_records import ScoredRecords
    from client.prediction.selection import NEW, select

    site, now = load(config), datetime.now().astimezone()
    limit_threads(site.policy)
    with governing(config, "predict") as governance, ScoredRecords.open(site.state) as scored:
        allowed = AllowedModel.open(site, model, now)
        results.refuse_unfit(to, allowed.task)
        digest = allowed.bundle.digest
        known = scored.of(digest) if which == NEW else frozenset()
        selection = select(site, allowed, which, known.__contains__)
        with progress_bars() as show:
            found = scores_of(site, allowed, selection, partial(show, "scoring"))
        counts = {"scored": len(found.made), "left_out": sum(found.left_out.values())}
        governance.audit.append(
            AuditEvent.PATIENTS_SCORED, model=digest, version=allowed.bundle.name, **counts
        )
        unwritten = results.write(to, allowed, found.made, now) if found.made else {}
        scored.add(digest, (one.record for one in found.made))
    lines = [f"{counts['scored']} records scored by {allowed.bundle.name}. {allowed.notice}"]
    reasons = dict(Counter(found.left_out) + Counter(unwritten))
    lines += [f"  {number:7}  {why}" for why, number in sorted(reasons.items())]
    facts = {
        "model": allowed.bundle.name,
        "digest": digest,
        "use": allowed.notice,
        "reasons": reasons,
        "file": str(to) if found.made else None,
        **counts,
    }
    print_result("\n".join(map(printable, lines)), facts, as_json)
