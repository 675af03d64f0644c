"""`wardround-site cache`: the pictures that were decoded once."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from client.cli.options import HERE, Config, Json, load
from protocol.errors import Code, WardroundError

app = typer.Typer(
    help="Pictures as tasks get them, decoded once and kept in the state folder.",
    no_args_is_help=True,
)


@app.command()
def fill(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Left out: every task in site.yaml with pictures.")
    ] = None,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Decode now what a task's view selects, so that no study waits for it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from client.cohorts.image_columns import with_pictures
    from client.cohorts.loading import read_table
    from tasks import registry

    site = load(config)
    names = tasks or [n for n in sorted(site.data) if registry.load(n).schema.images]
    if not names:
        raise WardroundError(
            Code.USAGE, "No task in site.yaml reads pictures.", remedy="Add one to `data`."
        )
    found = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        for name in names:
            line = progress.add_task(name, total=None)
            table, notes = with_pictures(
                site,
                registry.load(name),
                read_table(site, name),
                lambda done, of, line=line: progress.update(line, completed=done, total=of),  # type: ignore[misc]
            )
            rows = len(next(iter(table.values()), ()))
            found[name] = {"rows": rows, "notes": list(notes)}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, one in found.items():
        typer.echo(f"{name}: {one['rows']} rows with their pictures")
        for note in one["notes"]:  # type: ignore[attr-defined]
            typer.echo(f"  {note}")


@app.command()
def purge(config: Config = HERE, as_json: Json = False) -> None:
    """Remove every decoded picture; the next study, or `fill`, makes them anew."""
    from client.data.dicom.index.pixel_cache import purge as remove

    files, size = remove(load(config).state)
    if as_json:
        typer.echo(json.dumps({"files": files, "bytes": size}))
    else:
        typer.echo(f"Removed {files} files, {size / 2**20:.1f} MiB.")
