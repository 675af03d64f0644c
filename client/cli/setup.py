"""init, enrol, join: a hospital comes into a federation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import (
    HERE,
    Config,
    Json,
    Yes,
    config_path,
    confirm,
    console,
    load,
    printable,
)
from protocol.errors import Code, WardroundError


def mount(app: typer.Typer) -> None:
    app.command()(init)
    app.command()(enrol)
    app.command()(join)


def init(
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    site: Annotated[
        str | None, typer.Option(help="This site's name: lower case, as in every roster.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT; `join` fills it in otherwise.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="TASK=FILE: a task's cohort. May be repeated.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A task to allow. May be repeated.")
    ] = None,
    purpose: Annotated[
        list[str] | None, typer.Option(help="A purpose to allow. May be repeated.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help="A privacy mode to allow: none, local, distributed. May be repeated."),
    ] = None,
    approval: Annotated[
        str, typer.Option(help="hand: a person approves each study; rule: site.yaml suffices.")
    ] = "hand",
    least_patients: Annotated[
        int, typer.Option(help="With fewer patients the site takes no part.")
    ] = 20,
    delta: Annotated[float, typer.Option(help="At which epsilon is counted.")] = 1e-5,
    epsilon_per_study: Annotated[
        float | None, typer.Option(help="Most epsilon for one study.")
    ] = None,
    epsilon_lifetime: Annotated[
        float | None, typer.Option(help="Most epsilon over all studies, for ever.")
    ] = None,
    epsilon_broken: Annotated[
        float | None, typer.Option(help="Most epsilon if secure aggregation broke.")
    ] = None,
    exact_evaluation: Annotated[
        bool, typer.Option("--exact-evaluation", help="Allow sums of scores without noise.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Most CPU threads.")] = 2,
    memory: Annotated[str, typer.Option(help="Most memory, with its unit.")] = "4 GiB",
    metrics: Annotated[
        int | None, typer.Option(help="Port on 127.0.0.1 for health and metrics.")
    ] = None,
) -> None:
    """Make this site's keys, ledger and site.yaml in a new FOLDER.

    Asks for what it needs to know, or takes it from the options. Whatever no option allows is
    denied: open site.yaml afterwards and read it. Nothing is ever overwritten.

    Example: wardround-site init /srv/wardround --site north --data heart_disease=heart.csv
    """
    asking = site is None and sys.stdin.isatty()
    if site is None:
        if not asking:
            raise WardroundError(
                Code.USAGE, "The site has no name.", remedy="Give it with --site NAME."
            )
        site = typer.prompt("This site's name (lower case, such as st-mary)")
    files = _files(data or [])
    if asking and not files:
        files = _asked_files()
    if asking and coordinator is None:
        told = "Coordinator as HOST:PORT (empty: `join` fills it in)"
        coordinator = typer.prompt(told, default="", show_default=False) or None
    from client.enrolment.new_site import init as make
    from client.enrolment.site_template import UNKNOWN_COORDINATOR, Answers

    made = make(
        folder,
        Answers(
            site=site,
            coordinator=coordinator or UNKNOWN_COORDINATOR,
            data=files,
            tasks=tuple(task or ()),
            purposes=tuple(purpose or ()),
            modes=tuple(mode or ()),
            approval=approval,
            least_patients=least_patients,
            delta=delta,
            epsilon_per_study=epsilon_per_study,
            epsilon_lifetime=epsilon_lifetime,
            epsilon_broken=epsilon_broken,
            exact_evaluation=exact_evaluation,
            threads=threads,
            memory=memory,
            metrics=metrics,
        ),
    )
    path = folder / "site.yaml"
    typer.echo(f"Site {made.site} is set up in {folder}. Back up {folder / 'state'} and the keys.")
    if not made.policy.tasks:
        typer.echo("It allows nothing yet: read and complete site.yaml.")
    typer.echo(f"Next: wardround-site enrol --config {path}")


def enrol(
    config: Config = HERE,
    out: Annotated[
        Path | None, typer.Option(help="Write the card to a file instead of standard output.")
    ] = None,
) -> None:
    """Print this site's enrolment card, for the coordinator's operator.

    The card holds the site's name and its two public keys, nothing secret. Send it, and then read
    the fingerprints to the operator over the telephone: that call is what makes it trustworthy.
    """
    from client.enrolment.new_site import card

    made = card(load(config))
    text = made.model_dump_json(indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise WardroundError(
                Code.USAGE, f"{out} cannot be written: {error.strerror}."
            ) from None
        typer.echo(f"Written to {out}.", err=True)
    typer.echo("For the telephone:", err=True)
    typer.echo(f"  identity  {made.identity_fingerprint}", err=True)
    typer.echo(f"  node key  {made.node_fingerprint}", err=True)


def join(
    bundle: Annotated[Path, typer.Argument(help="The file from the coordinator's operator.")],
    config: Config = HERE,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take the coordinator's address, certificate authority and roster from its BUNDLE.

    Shows a fingerprint for every hospital. Compare each by telephone with the hospital itself,
    not with the coordinator: secure aggregation rests on these keys.
    """
    from rich.table import Table

    from client.enrolment import join as joining

    compared = joining.compare(config_path(config), joining.Bundle.load(bundle))
    if not as_json:
        screen = console()
        screen.print(f"Coordinator  {printable(compared.bundle.coordinator)}")
        screen.print(f"CA           {compared.bundle.ca_fingerprint()}")
        table = Table("site", "fingerprint of its identity", "", box=None)
        for site, (fingerprint, change) in compared.sites.items():
            alarm = "bold red" if change == "CHANGED" else None
            table.add_row(site, fingerprint, change, style=alarm)
        screen.print(table)
        if compared.leaving:
            screen.print(f"Leaves the roster: {', '.join(compared.leaving)}")
    confirm("Have you compared these fingerprints by telephone?", yes)
    joined = joining.join(compared)
    if as_json:
        import json

        sites = {name: {"fingerprint": f, "change": c} for name, (f, c) in compared.sites.items()}
        typer.echo(json.dumps({"coordinator": joined.coordinator.address, "sites": sites}))
    else:
        typer.echo("Joined. Next: wardround-site check (and restart a running daemon).")


def _files(given: list[str]) -> dict[str, Path]:
    files = {}
    for text in given:
        task, found, file = text.partition("=")
        if not found or not task or not file:
            raise WardroundError(
                Code.USAGE, f"--data {text} is not TASK=FILE.", remedy="As in heart_disease=h.csv."
            )
        files[task] = Path(file).absolute()
    return files


def _asked_files() -> dict[str, Path]:
    from tasks import registry

    known = ", ".join(registry.installed())
    task = typer.prompt(f"A task to prepare for ({known}; empty: none)", default="").strip()
    if not task:
        return {}
    return {task: Path(typer.prompt(f"File with the cohort for {task}")).absolute()}
