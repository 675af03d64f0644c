"""personal, predict: this site's own models, and what released ones say of its patients."""

from __future__ import annotations

import signal
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from client.cli.options import HERE, Config, config_path, governing, load, progress_bars
from client.daemon import stop_signals
from protocol.core_dumps import forbid_core_dumps
from protocol.errors import Code, WardroundError
from protocol.terminal.command_line import Json, Log, console, print_json, print_result
from protocol.terminal.printable import printable


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
    compared = list(dict.fromkeys(metric for model in models for metric in model["compared"]))
    for metric in compared:
        table.add_column(f"{metric}, own (released)")
    table.add_column("title")
    for model in models:
        figures = [_own_and_released(model["figures"], metric) for metric in compared]
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
        "compared": study.outcome.compared,
        "figures": figures_of(path.parent),
    }


def _own_and_released(figures: dict[str, Any], metric: str) -> str:
    values = (figures.get(name, {}).get(metric) for name in ("own", "released"))
    own, released = ("-" if value is None else f"{value:.3f}" for value in values)
    return f"{own} ({released})"


def predict(
    model: Annotated[
        str,
        typer.Option(
            help="NAME@approved, which the daemon fetches once site.yaml allows it; or a bundle: a "
            "file that `wardround export` wrote."
        ),
    ],
    which: Annotated[str, typer.Option("--for", help="cohort, new, or an accession number.")],
    to: Annotated[
        Path | None,
        typer.Option(
            help="What to write: a file .csv, .parquet or .ndjson (FHIR R4), or a new folder for "
            "DICOM reports. Left out: reports are sent, as policy.predict says."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Go on until SIGTERM or Ctrl-C: score and send what arrives."
        ),
    ] = False,
    config: Config = HERE,
    log: Log = "text",
    as_json: Json = False,
) -> None:
    """Score this site's patients with a released model, for this hospital's own use.

    Once a reviewer approved the model and policy.predict in site.yaml allows it. cohort: all that
    the task's view selects or, for pictures, all that are ready; new: those of them that this model
    has not scored before. What is written names patients: it is for this site's user alone (0600).
    Nothing is sent to the coordinator; the audit log notes model and counts, and nobody's score.
    Without --to, reports wait in the state folder until the PACS has them (`deliver`, `status`).
    With --follow, beside `receive` and under systemd, each picture is scored once it is ready.

    Example: wardround-site predict --model heart_disease@approved --for new --to scores.csv
    """
    if follow:
        _follow(config, model, which, to, log)
        return
    from client.config.resource_limits import limit_threads
    from client.prediction.delivery import deliver as send
    from client.prediction.fetched_models import bundle_file
    from client.prediction.scoring_run import run
    from client.prediction.state import PredictionState

    site = load(config)
    limit_threads(site.policy)
    with governing(config, "predict") as governance, PredictionState.open(site.state) as state:
        with progress_bars() as show:
            scoring = partial(show, "scoring")
            bundle = bundle_file(site, model)
            done = run(site, governance.audit, state, bundle, which, to, scoring)
        if to is None:
            send(state, site)
    lines = [f"{done.scored} records scored by {done.model}. {done.use}"]
    lines += [f"  {number:7}  {why}" for why, number in sorted(done.reasons.items())]
    written = str(to) if to is not None and done.scored else None
    facts = asdict(done) | {"file": written}
    print_result("\n".join(map(printable, lines)), facts, as_json)


def _follow(config: Path, model: str, which: str, to: Path | None, log: Log) -> None:
    from client.prediction.selection import NEW

    if which != NEW or to is not None:
        raise WardroundError(
            Code.USAGE,
            "What arrives is new, and its reports are sent.",
            remedy="Use --follow with --for new, and without --to.",
        )
    forbid_core_dumps()
    with stop_signals.held() as signals:
        from client.config.resource_limits import limit_threads
        from client.log_events import configure, event
        from client.prediction.service import PredictionService
        from client.prediction.state import PredictionState

        site = load(config)
        configure(log)
        limit_threads(site.policy)
        with governing(config, "predict") as governance, PredictionState.open(site.state) as state:
            event("following", site=site.site, model=Path(model).name)
            service = PredictionService(config_path(config), model, governance.audit)
            service.follow(state, lambda: signal.sigtimedwait(signals, 0.2) is not None)
            event("stopped")


def figures(
    model: Annotated[Path, typer.Option(help="The bundle: a file that `wardround export` wrote.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """How well a released model does here, by subgroup, beside all sites together.

    Of a study in which this site took part, on its own patients of the evaluation part, without
    noise. Nothing is sent and nothing is spent: what is shown is this site's alone, so keep it
    here. Beside it stands what the model's card says of all sites; no other site's figures exist.

    Example: wardround-site figures --model heart.safetensors
    """
    from client.cohorts.loading import build_cohort
    from client.prediction.allowed_model import pinned_key
    from client.prediction.own_figures import own_figures
    from protocol.models.bundle import Bundle
    from tasks import registry

    site = load(config)
    bundle = Bundle.read(model, pinned_key(site))
    with governing(config, "figures", study=bundle.study.digest) as governance:
        study, _ = governance.approvals.find(bundle.study.digest)
        task = registry.load_same(study.task)
        cohort = build_cohort(site, task, governance.state.split.place, study.evaluation)
    found = own_figures(bundle, task, cohort, site.site)
    if as_json:
        print_json(found.plain())
        return
    for line in found.lines():
        typer.echo("\n".join(map(printable, line.split("\n"))))


def deliver(
    again: Annotated[
        bool, typer.Option("--again", help="Send what was given up too: it waits once more.")
    ] = False,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Send the reports that wait to the PACS, and say how each destination does.

    When a PACS that was away is back; every `predict` without --to does it too. A report waits for
    three days at most. `--again` after you mended what it was given up for.

    Example: wardround-site deliver --again
    """
    from client.prediction.delivery import deliver as send
    from client.prediction.state import PredictionState

    site = load(config)
    with governing(config, "deliver"), PredictionState.open(site.state) as state:
        if again:
            state.send_again()
        send(state, site)
        found = state.deliveries()
    lines = [f"{title}: {one}" for title, one in found.items()] or ["No report was ever queued."]
    facts = {title: asdict(one) for title, one in found.items()}
    print_result("\n".join(map(printable, lines)), facts, as_json)
