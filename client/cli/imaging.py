"""receive, index, images: how pictures come in, and which of them may be used."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from client.cli.options import HERE, Config, governing, load, progress_bars
from client.daemon import stop_signals
from protocol.core_dumps import forbid_core_dumps
from protocol.errors import Code, WardroundError
from protocol.terminal.command_line import (
    CommandLine,
    Json,
    Log,
    console,
    print_json,
    print_result,
    refuse_early_options,
)
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from client.config.imaging_config import Imaging
    from client.config.site_config import SiteConfig
    from client.daemon.receiver_service import ReceiverService
    from client.data.dicom.index.index import ImageIndex
    from client.data.dicom.index.indexing import IndexingCounts

images_app = CommandLine(bare=True)


def receive(config: Config = HERE, log: Log = "text") -> None:
    """Take pictures that the PACS sends (DICOM Send), until SIGTERM or Ctrl-C.

    Beside the daemon, where the PACS sends rather than exports. Only senders named in
    imaging.receiver.calling are let in. A study that has been quiet for a while is brought into the
    index. Nothing of a picture is logged.

    Example: wardround-site receive --config /srv/wardround --log json
    """
    forbid_core_dumps()
    site = load(config)
    with stop_signals.held() as signals:
        from client.daemon.receiver_service import ReceiverService
        from client.log_events import configure, event

        configure(log)
        with ReceiverService(site) as reception:
            event("listening", site=site.site, title=reception.title, address=reception.address)
            if not reception.settings.calling:
                event("nobody may send", do="name AE titles in imaging.receiver.calling")
            _watch(reception, signals, live=log == "text" and sys.stderr.isatty())
            event("stopping")
        event("stopped", **reception.summary())


def index(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders, files or DICOMDIRs; left out: those of site.yaml."),
    ] = None,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Bring the index of pictures up to date: read what is new, look at it, forget what is gone.

    After pictures were exported into a folder; the receiver indexes what it takes by itself. Reads
    the folders of imaging.folders and what the receiver has stored, or those that you name. It may
    be interrupted at any time, and then continues where it stopped.

    Example: wardround-site index /data/export
    """
    from client.data.dicom.index.indexing import bring_up_to_date

    site = load(config)
    imaging = _imaging(site)
    roots = [*(folders or imaging.folders)]
    store = imaging.store(site.state)
    if not folders and store is not None and store.is_dir():
        roots.append(store)
    if not roots:
        raise WardroundError(
            Code.USAGE, "There is nothing to index.", remedy="Name a folder, or imaging.folders."
        )
    with governing(config, "index"), _opened(site) as open_index, progress_bars() as show:
        tally = bring_up_to_date(
            open_index,
            roots,
            workers=imaging.workers,
            words=frozenset(imaging.words),
            progress=show,
        )
    facts = _facts(tally)
    if as_json:
        print_json(facts)
    else:
        _print(facts)


@images_app.callback(invoke_without_command=True)
def images(
    context: typer.Context,
    config: Config = HERE,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page, 0600.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Write a contact sheet of what was set aside into this new folder."),
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="Name each file kept out.")] = False,
    as_json: Json = False,
) -> None:
    """Show which pictures are ready for use, and what was kept out and why.

    After `index`, and to decide what to `release`. The contact sheet shows pictures that may have
    names burned in: it stays on this machine, for the eyes of those who may see the patients.

    Example: wardround-site images --sheet suspicious
    """
    if context.invoked_subcommand is not None:
        refuse_early_options(context)
        return
    from client.data.dicom.index import report

    site = load(config)
    with _opened(site) as open_index:
        summary = report.of(open_index)
        if html is not None:
            report.write_html(summary, html, site.site)
        if sheet is not None:
            from client.data.dicom.index.contact_sheet import write_sheet

            pages = write_sheet(open_index, sheet, _imaging(site).workers)
            page = printable(str(sheet / "index.html"))
            typer.echo(f"{pages} pages: open {page}", err=True)
        kept_out = list(open_index.kept_out()) if files else []
    if as_json:
        facts: dict[str, Any] = report.plain(summary)
        if files:
            facts["files"] = [
                {"file": str(a.path), "why": a.verdict, "image": a.image, "key": a.key}
                for a in kept_out
            ]
        print_json(facts)
        return
    screen = console()
    report.show(summary, screen)
    for aside in kept_out:
        screen.print(f"{aside.verdict:50} {printable(str(aside.path))}", soft_wrap=True)


@images_app.command()
def release(
    keys: Annotated[list[str], typer.Argument(help="First digits of keys, as on the sheet.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Let pictures through that were set aside on suspicion: you have looked at them.

    When the contact sheet shows that no name is burned in. It holds for the file that you looked
    at, and for no other that comes under the same UID. What cannot be decoded, names no
    patient or contradicts another is not let through by this.

    Example: wardround-site images release 3f1c2a9b 77d0
    """
    _decide(config, keys, "release", as_json)


@images_app.command()
def withhold(
    keys: Annotated[list[str], typer.Argument(help="First digits of keys, as on the sheet.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Keep pictures out, whatever the gate says of them.

    When you have seen a name on one that counts as ready.

    Example: wardround-site images withhold 3f1c2a9b
    """
    _decide(config, keys, "withhold", as_json)


def _decide(
    config: Path, keys: list[str], decision: Literal["release", "withhold"], as_json: bool
) -> None:
    with (
        governing(config, f"images {decision}", images=" ".join(key[:25] for key in keys)),
        _opened(load(config)) as open_index,
    ):
        whole = open_index.whole_keys(keys)
        done = open_index.review(whole, decision)
    print_result(f"{done} pictures: {decision}.", {decision: done}, as_json)


def _imaging(site: SiteConfig) -> Imaging:
    if site.imaging is None:
        raise WardroundError(
            Code.CONFIGURATION,
            "site.yaml has no section imaging.",
            remedy="Add `imaging:` with folders or receiver; `wardround-site init` shows how.",
        )
    return site.imaging


@contextmanager
def _opened(site: SiteConfig) -> Iterator[ImageIndex]:
    from client.data.dicom.index.index import ImageIndex

    with ImageIndex.open(site.state, _imaging(site).gate) as opened:
        yield opened


def _watch(reception: ReceiverService, signals: set[signal.Signals], *, live: bool) -> None:
    """Waits for a signal; with `live`, shows a status line that is renewed each second."""
    if not live:
        signal.sigwait(signals)
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=console(stderr=True), transient=True, auto_refresh=False) as screen:
        while signal.sigtimedwait(signals, 1.0) is None:
            counts = ", ".join(f"{value} {key}" for key, value in reception.summary().items())
            line = f"{reception.title} at {reception.address}: {counts}"
            screen.update(Text(printable(line)), refresh=True)


def _facts(tally: IndexingCounts) -> dict[str, Any]:
    verdicts = dict(tally.verdicts)
    ready = verdicts.pop("", 0)
    return {
        "found": tally.found,
        "read": tally.read,
        "unchanged": tally.unchanged,
        "gone": tally.gone,
        "looked_at": tally.looked_at,
        "ready": ready,
        "kept_out": verdicts,
    }


def _print(facts: dict[str, Any]) -> None:
    screen, kept_out = console(), facts["kept_out"]
    screen.print(
        f"{facts['found']} files: {facts['read']} read, {facts['unchanged']} as before, "
        f"{facts['gone']} gone; {facts['looked_at']} pictures looked at."
    )
    screen.print(f"In the index: {facts['ready']} ready, {sum(kept_out.values())} kept out.")
    for why, count in sorted(kept_out.items(), key=lambda item: -item[1]):
        screen.print(f"  {count:7}  {why}")
    if kept_out:
        screen.print("Look at them: wardround-site images --sheet FOLDER")
