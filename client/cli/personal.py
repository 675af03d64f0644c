"""personal: this site's own models, where they are stored, and how well they do here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from client.cli.options import HERE, Config, load
from protocol.terminal.command_line import Json, console, print_json
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
