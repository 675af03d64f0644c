"""cache: the pictures that were decoded once, for all studies."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from client.cli.options import HERE, Config, load, progress_bars
from protocol.errors import Code, WardroundError
from protocol.terminal.command_line import CommandLine, Json, print_json, print_result
from protocol.terminal.printable import printable

app = CommandLine("Pictures as tasks get them, decoded once and kept in the state folder.")


@app.command()
def fill(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Left out: every task in site.yaml with pictures.")
    ] = None,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Decode now what a task's view selects, so that no study waits for it.

    Before the first study of a task with pictures, and after many new ones have come in.

    Example: wardround-site cache fill chest_xray
    """
    from client.cohorts.image_columns import with_pictures
    from client.cohorts.loading import read_table
    from tasks import registry

    site = load(config)
    names = tasks or [n for n in sorted(site.data) if registry.load(n).schema.images]
    if not names:
        raise WardroundError(
            Code.USAGE, "No task in site.yaml reads pictures.", remedy="Add one to `data`."
        )
    filled: dict[str, tuple[int, list[str]]] = {}
    with progress_bars() as show:
        for name in names:
            task, records = registry.load(name), read_table(site, name)
            table, notes = with_pictures(site, task, records, partial(show, name))
            filled[name] = len(next(iter(table.values()), ())), list(notes)
    if as_json:
        print_json({name: {"rows": rows, "notes": said} for name, (rows, said) in filled.items()})
        return
    for name, (rows, said) in filled.items():
        typer.echo(f"{name}: {rows} rows with their pictures")
        for note in said:
            typer.echo(f"  {printable(note)}")


@app.command()
def purge(config: Config = HERE, as_json: Json = False) -> None:
    """Remove every decoded picture; the next study, or `fill`, decodes them again.

    To free disk space, or when a picture in the cache is damaged. The originals are not touched.

    Example: wardround-site cache purge
    """
    from client.data.dicom.index.pixel_cache import purge as remove

    files, size = remove(load(config).state)
    done = f"Removed {files} files, {size / 2**20:.1f} MiB."
    print_result(done, {"files": files, "bytes": size}, as_json)
