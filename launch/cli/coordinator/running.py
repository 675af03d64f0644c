"""Run a coordinator, see how it is, and end or tidy what it holds."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from launch.cli.coordinator.options import HERE, Config, configuration
from protocol.core_dumps import forbid_core_dumps
from protocol.errors import WardroundError
from protocol.terminal.command_line import Json, Log, console, print_json, print_result
from protocol.terminal.printable import printable


def start(
    config: Config = HERE,
    log: Log = "text",
    folder: Annotated[Path | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Run the coordinator in the foreground, until SIGTERM or Ctrl-C.

    Run it under systemd or in a container. Studies that are running when it stops continue from
    their last round when it starts again.

    Example: wardround coordinator start --config /srv/coordinator --log json
    """
    forbid_core_dumps()
    from launch.tracking_server.coordinator_login import log_in
    from server.coordinator.journal import Journal
    from server.coordinator.operations.metrics import CoordinatorMetrics
    from server.coordinator.operations.settlement import Settlement
    from server.coordinator.service import Coordinator
    from server.review.approval_watch import ApprovalWatch

    ending = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    # Roster, accounts and server certificate are reread without a reload.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    loaded = configuration(folder or config)  # older releases took the folder as an argument
    log_in(loaded)
    journal = Journal(loaded.event_log, console=sys.stdout, as_json=log == "json")
    try:
        with contextlib.ExitStack() as stack:
            coordinator = stack.enter_context(Coordinator(loaded, journal))
            if loaded.metrics is not None:
                stack.enter_context(CoordinatorMetrics(loaded.metrics, coordinator))
            if (uri := loaded.tracking.uri) is not None:
                folder, signer = coordinator.undelivered, coordinator.signer
                stack.enter_context(Settlement(folder, uri, signer, journal.delivered))
                report = coordinator.unsigned_approvals
                watch = ApprovalWatch(coordinator.decisions, coordinator.offers, uri, report)
                stack.enter_context(watch)
            coordinator.serve(ending)
    except WardroundError as error:
        if log == "text":
            raise
        journal.write("failed", code=error.code.value, why=error.message, do=error.remedy)
        raise typer.Exit(error.exit_status) from None
    finally:
        journal.close()


def status(config: Config = HERE, as_json: Json = False) -> None:
    """Show whether the coordinator runs, its sites and its studies.

    Run it first when a site or a data scientist reports that something does not answer.

    Example: wardround coordinator status --config /srv/coordinator
    """
    from server.coordinator.setup import status as status_of

    status = status_of(configuration(config))
    if as_json:
        print_json(status)
        return
    from rich.table import Table

    screen = console()
    screen.print(
        f"{'running' if status['running'] else 'not running'}, {status['address']}, "
        f"certificate good for {status['certificate_days_left']:.0f} days"
    )
    for sentence in status["attention"]:
        screen.print(f"attention: {sentence}")
    for what, why in status["failing"].items():
        screen.print(f"failing: {printable(what)} ({printable(why)})")
    for study in status["studies"]:
        if why := study.get("paused"):
            screen.print(
                f"paused: study {printable(study['study'][:12])} ({printable(why)}); it goes on "
                "by itself once the disk takes its writes"
            )
    sites = Table("site", "patients", "online", "fingerprint", box=None)
    for name, site in status["sites"].items():
        online = "yes" if site["online"] else "no"
        sites.add_row(printable(name), str(site["patients"]), online, site["fingerprint"])
    screen.print(sites)
    studies = Table("study", "state", "round", "title", "account", box=None)
    for study in status["studies"]:
        rounds = f"{study['round']}/{study['rounds']}"
        row = (study["study"][:12], study["state"], rounds, study["title"], study["account"])
        studies.add_row(*map(printable, row))
    screen.print(studies)


def prune(
    days: Annotated[int, typer.Option(min=1, help="Days since the study ended.")] = 365,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Remove weights and checkpoints of studies that ended long ago.

    From a timer, or when the disk fills up. Models are in MLflow. What a study was and what
    happened stays: its document, events and summary. What hospitals have spent stands in their
    ledgers, which nothing here touches.

    Example: wardround coordinator prune --days 90
    """
    from datetime import timedelta

    from server.coordinator.operations.prune import prune as remove

    gone = remove(configuration(config), timedelta(days=days))
    lines = [f"{one.study[:12]}  {one.bytes / 1e6:.1f} MB" for one in gone]
    facts = [{"study": one.study, "bytes": one.bytes} for one in gone]
    print_result("\n".join(lines) or "Nothing to remove.", facts, as_json)


def cancel(
    study: Annotated[str, typer.Argument(help="The study's digest, or its first digits.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """End a study for good, whoever submitted it.

    When a study must not continue and its owner cannot be reached. What it has spent stays spent.

    Example: wardround coordinator cancel 3f1c2a9b
    """
    from server.coordinator.setup import cancel as cancel_study

    digest = cancel_study(configuration(config), study)
    print_result(f"Cancelled: {digest}", {"cancelled": digest}, as_json)
