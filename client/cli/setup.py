"""init, enrol, join: how a hospital enters a federation."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli import questions
from client.cli.options import HERE, Config, config_path, load
from protocol.errors import Code, WardroundError, unwritable
from protocol.terminal.command_line import Json, Yes, confirm, console, print_json, print_result
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from client.enrolment.join import FederationBundle
    from client.enrolment.site_template import PictureSources
    from protocol.wire.enrolment import Invitation

Senders = Annotated[
    list[str] | None,
    typer.Option("--pacs", help="An AE title that may send pictures. May be repeated."),
]
Listen = Annotated[
    str, typer.Option(help="HOST:PORT at which pictures are received; 0.0.0.0: from elsewhere.")
]
Folders = Annotated[
    list[Path] | None, typer.Option("--pictures", help="A folder of pictures. May be repeated.")
]
_LISTEN = "127.0.0.1:11112"
_POLL = 2.0
"""Seconds between two questions whether all hospitals are enrolled."""


def init(
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    site: Annotated[
        str | None, typer.Option(help="This site's name: lower case, as in every roster.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of the coordinator; `join` fills it in otherwise.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="TASK=FILE: a task's cohort. May be repeated.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A task to allow. May be repeated.")
    ] = None,
    pacs: Senders = None,
    listen: Listen = _LISTEN,
    pictures: Folders = None,
    purpose: Annotated[
        list[str] | None, typer.Option(help="A purpose to allow. May be repeated.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help="A privacy mode to allow: none, local, distributed. May be repeated."),
    ] = None,
    approval: Annotated[
        str, typer.Option(help="hand: a person approves each study; rule: site.yaml is enough.")
    ] = "hand",
    least_patients: Annotated[
        int, typer.Option(help="With fewer patients this site takes no part.")
    ] = 20,
    delta: Annotated[float, typer.Option(help="The delta at which epsilon is counted.")] = 1e-5,
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
    exact_releases: Annotated[
        int, typer.Option(help="Most sums without noise, ever; each can show one patient.")
    ] = 0,
    public_data: Annotated[
        list[str] | None,
        typer.Option(help="A task whose data are public or synthetic. May be repeated."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Most CPU threads.")] = 2,
    memory: Annotated[str, typer.Option(help="Most memory, with its unit.")] = "4 GiB",
    metrics: Annotated[
        int | None, typer.Option(help="Port on 127.0.0.1 for health and metrics.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make this site's keys, ledger and site.yaml in a new FOLDER.

    Once at every hospital, before anything else. Asks for what it needs to know, or takes it from
    the options. Whatever no option allows is denied: open site.yaml afterwards and read it. Nothing
    is ever overwritten. For a task on pictures the file holds the labels, by accession number, and
    --pacs or --pictures says where they come from.

    Example: wardround-site init /srv/wardround --site north --data heart_disease=heart.csv
    """
    terminal = sys.stdin.isatty()
    asking = site is None and terminal
    if site is None:
        if not asking:
            raise WardroundError(
                Code.USAGE, "The site has no name.", remedy="Give it with --site NAME."
            )
        site = questions.site_name()
    files, allowed = _files(data or []), list(task or [])
    prepared = [*files, *allowed]
    if asking and not prepared and (wanted := questions.task()):
        prepared = [wanted]
    missing = [name for name in prepared if name not in files]
    files |= questions.files(missing, asking=terminal)
    sources = questions.pictures(prepared, pacs or [], listen, pictures or [], asking=terminal)
    if asking and coordinator is None:
        coordinator = questions.coordinator()
    from client.enrolment.new_site import init as make
    from client.enrolment.site_template import UNKNOWN_COORDINATOR, SiteAnswers

    made = make(
        folder,
        SiteAnswers(
            site=site,
            coordinator=coordinator or UNKNOWN_COORDINATOR,
            data=files,
            pictures=sources,
            tasks=tuple(allowed),
            purposes=tuple(purpose or ()),
            modes=tuple(mode or ()),
            approval=approval,
            least_patients=least_patients,
            delta=delta,
            epsilon_per_study=epsilon_per_study,
            epsilon_lifetime=epsilon_lifetime,
            epsilon_broken=epsilon_broken,
            exact_evaluation=exact_evaluation,
            exact_releases=exact_releases,
            public_data=tuple(public_data or ()),
            threads=threads,
            memory=memory,
            metrics=metrics,
        ),
    )
    path = folder / "site.yaml"
    unfinished = "" if made.policy.tasks else "It allows nothing yet: complete site.yaml.\n"
    print_result(
        f"Site {made.site} is set up in {folder}. Back up {folder / 'state'} and the keys.\n"
        f"{unfinished}Next: wardround-site enrol --config {path}",
        {"site": made.site, "config": path},
        as_json,
    )


def enrol(
    config: Config = HERE,
    out: Annotated[
        Path | None, typer.Option(help="Write the card to a file instead of standard output.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print this site's enrolment card, for the coordinator's operator.

    After `init`. The card holds the site's name and its two public keys, nothing secret. Send it,
    and then read the fingerprints to the operator over the telephone: that call is what makes it
    trustworthy. With --json, the card and its fingerprints are one document.

    Example: wardround-site enrol --out north.json
    """
    from client.enrolment.new_site import card

    made = card(load(config))
    text = made.model_dump_json(indent=2)
    if out is not None:
        try:
            out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise unwritable(out, error) from None
    if as_json:
        prints = {"identity": made.identity_fingerprint, "node_key": made.node_fingerprint}
        print_json({"card": made.model_dump(), "fingerprints": prints, "file": out})
        return
    typer.echo(text if out is None else f"Written to {out}.", err=out is not None)
    typer.echo("For the telephone:", err=True)
    typer.echo(f"  identity  {made.identity_fingerprint}", err=True)
    typer.echo(f"  node key  {made.node_fingerprint}", err=True)


def join(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The invitation or bundle from the coordinator's operator."
        ),
    ],
    config: Config = HERE,
    data: Annotated[
        list[str] | None,
        typer.Option(help="TASK=FILE: a task's cohort, for a site that the invitation makes."),
    ] = None,
    pacs: Senders = None,
    listen: Listen = _LISTEN,
    pictures: Folders = None,
    own_rules: Annotated[
        bool,
        typer.Option("--own-rules", help="Leave the proposed rules out of a new site.yaml."),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Enter a federation by the INVITATION of the coordinator's operator, or take a new BUNDLE.

    An invitation does all: it makes this site in the folder of --config where there is none, brings
    its card to the coordinator, and waits until all hospitals are there; after an interruption the
    same command goes on. Read this site's fingerprints to the operator by telephone. Then a
    fingerprint is shown for every hospital: compare each with the hospital itself, not with the
    coordinator, because secure aggregation rests on these keys. With --yes, a bundle that changes a
    known key is refused.

    Example: wardround-site join north.invitation.json --config /srv/wardround
    """
    from rich.table import Table

    from client.enrolment import join
    from protocol.wire.enrolment import Invitation

    invitation = Invitation.load(file)
    if invitation is None:
        path, bundle = config_path(config), join.FederationBundle.load(file)
    else:
        files = _files(data or [])
        sources = questions.pictures(files, pacs or [], listen, pictures or [], asking=not yes)
        path, bundle = _invited(invitation, config, files, sources, rules=not own_rules, yes=yes)
    compared = join.compare(path, bundle)
    screen = console(stderr=as_json)
    screen.print(f"Coordinator  {printable(compared.bundle.coordinator)}")
    screen.print(
        f"CA           {compared.bundle.ca_fingerprint()}  {compared.ca}", style=_alarm(compared.ca)
    )
    if compared.signing_key is not None:
        fingerprint, change = compared.signing_key
        screen.print(f"Signs models {fingerprint}  {change}", style=_alarm(change))
    table = Table("site", "fingerprint of its identity", "", box=None)
    for site, (fingerprint, change) in compared.sites.items():
        table.add_row(printable(site), fingerprint, change, style=_alarm(change))
    screen.print(table)
    for name, (fingerprint, change) in compared.reviewers.items():
        screen.print(
            f"Approves models: {printable(name)} {fingerprint}  {change}", style=_alarm(change)
        )
    if compared.leaving:
        screen.print(f"Leaves the roster: {printable(', '.join(compared.leaving))}")
    if yes:
        compared.refuse_changed_keys()
    confirm("Have you compared these fingerprints by telephone?", yes)
    joined = join.join(compared)
    sites = {name: {"fingerprint": f, "change": c} for name, (f, c) in compared.sites.items()}
    facts: dict[str, object] = {"coordinator": joined.coordinator.address, "sites": sites}
    if compared.reviewers:
        facts["reviewers"] = {
            name: {"fingerprint": f, "change": c} for name, (f, c) in compared.reviewers.items()
        }
    if compared.signing_key is not None:
        facts["signing_key"] = dict(
            zip(("fingerprint", "change"), compared.signing_key, strict=True)
        )
    print_result(
        "Joined. Next: wardround-site check (and restart a running daemon).", facts, as_json
    )


def _invited(
    invitation: Invitation,
    config: Path,
    data: Mapping[str, Path | None],
    pictures: PictureSources,
    *,
    rules: bool,
    yes: bool,
) -> tuple[Path, FederationBundle]:
    """The path of site.yaml, and the bundle of all hospitals, for which it waits."""
    from client.enrolment import invitation as enrolment
    from client.enrolment.new_site import card
    from protocol.wire.enrolment import ProposedRules

    folder = config.parent if config.suffix == ".yaml" else config
    proposed = invitation.rules if rules else ProposedRules()
    if not (folder / "site.yaml").exists() and proposed != ProposedRules():
        for rule, value in proposed.model_dump(exclude_none=True).items():
            said = ", ".join(value) if isinstance(value, tuple) else f"{value:g}"
            typer.echo(f"  {rule:<18} {printable(said)}", err=True)
        confirm("May site.yaml allow this? Every study will still ask a person.", yes)
    site = enrolment.founded(folder, invitation, data, pictures, proposed)
    made = card(site)
    typer.echo(f"Read these to the coordinator's operator by telephone ({site.site}):", err=True)
    typer.echo(f"  identity  {made.identity_fingerprint}", err=True)
    typer.echo(f"  node key  {made.node_fingerprint}", err=True)
    told: tuple[str, ...] = ()
    while (answer := enrolment.hand_in(site, invitation)).missing:
        if answer.missing != told:
            told = answer.missing
            typer.echo(f"Waiting until the operator has enrolled {', '.join(told)}.", err=True)
        time.sleep(_POLL)
    return folder / "site.yaml", enrolment.bundle_of(answer, invitation)


def _alarm(change: str) -> str | None:
    return "bold red" if change == "CHANGED" else None


def _files(options: list[str]) -> dict[str, Path | None]:
    files: dict[str, Path | None] = {}
    for text in options:
        task, _, file = text.partition("=")
        if not task or not file:
            raise WardroundError(
                Code.USAGE, f"--data {text} is not TASK=FILE.", remedy="As in heart_disease=h.csv."
            )
        files[task] = Path(file).absolute()
    return files
