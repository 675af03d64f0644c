"""check, start, status: try the site's set-up, run its daemon, see what it does."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from dataclasses import asdict
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli.options import HERE, Config, governing, load, print_facts
from client.daemon import stop_signals
from protocol.core_dumps import forbid_core_dumps
from protocol.errors import WardroundError
from protocol.privacy.epsilon_text import rounded_up
from protocol.terminal.command_line import Json, Log, console, print_json
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from client.checks.base import CheckResult
    from client.config.site_config import SiteConfig
    from client.daemon.daemon import Daemon
    from client.data.sources.attrition import Attrition


def check(
    config: Config = HERE,
    cohort: Annotated[
        bool, typer.Option("--cohort", help="Look at every column too, and write a page of plots.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Try everything that can fail: keys, ledger, disk, clock, data, TLS, sign-in, a dry step.

    Before the first `start`, and whenever something does not work. Says pass, or what to do.
    Nothing leaves this site, nothing is spent. Works beside a running daemon. The exit status is
    that of the first failure.

    With --cohort, the rows of each step of a task's view are counted (why is a cohort empty?), with
    value sets that no record meets, codes that nothing covers, units that were not read, months
    without data and an extract that ends early; the likely cause first. Then the task's table is
    looked at column by column: missing values, values out of range or in another unit, misspelt
    categories, columns that give the label away, dates in the wrong order. The page lies in the
    state folder under reports/, for your eyes only.

    Example: wardround-site check --cohort
    """
    from client.checks.base import tried, verdict
    from client.config.resource_limits import limit_threads

    site = load(config)
    limit_threads(site.policy)
    findings: list[CheckResult] = []
    with governing(config, None) as governance:
        from client.checks.data import data_checks
        from client.checks.imaging import imaging_checks
        from client.checks.link import link_checks
        from client.checks.machine import machine_checks

        for room in (
            machine_checks(site, governance),
            imaging_checks(site),
            data_checks(site, governance.state.split),
            link_checks(site),
        ):
            for finding in tried(room):
                findings.append(finding)
                if not as_json:
                    _show_finding(finding)
    status = verdict(findings)
    cohorts = _inspect_cohorts(site, as_json) if cohort else []
    if as_json:
        rows = [asdict(finding) for finding in findings]
        answer = {"site": site.site, "ok": status == 0, "checks": rows}
        print_json(answer | ({"cohorts": cohorts} if cohort else {}))
    elif status == 0:
        typer.echo(f"\n{site.site} is ready: wardround-site start")
    sys.exit(status)


def _inspect_cohorts(site: SiteConfig, as_json: bool) -> list[dict[str, Any]]:
    """Counts the steps of each task's view, and assesses its table column by column; skips what a
    check that has failed is about."""
    from client.cohorts.loading import attrition_of, read_table
    from client.cohorts.quality_page import grid, write_page
    from client.data.quality import assess
    from tasks import registry

    folder = site.state / "reports"
    cohorts: list[dict[str, Any]] = []
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in sorted(site.data):
        try:
            lost = attrition_of(site, name)
            found = {"task": name, "attrition": asdict(lost) | {"causes": lost.causes}}
            cohorts.append(found)
            if not as_json:
                _show_attrition(name, lost)
            quality = assess(registry.load(name), read_table(site, name))
        except WardroundError:
            continue
        if not quality.rows:
            continue
        page = folder / f"cohort_{name}.html"
        write_page(quality, page)
        found.update(asdict(quality), page=str(page))
        if not as_json:
            screen = console()
            screen.print()
            screen.print(grid(quality))
            for doubt in quality.doubts:
                typer.echo(f"  {printable(doubt)}")
            typer.echo(f"  with plots: {page}")
    return cohorts


def _show_attrition(task: str, lost: Attrition) -> None:
    """The likely cause first, then the steps on a few lines."""
    typer.echo(f"\n{task}, step by step (rows, patients):")
    for cause in lost.causes:
        typer.echo(fill(printable(cause), 100, initial_indent="  ", subsequent_indent="    "))
    counts = (
        f"{step.name} {step.rows}" + ("" if step.patients is None else f", {step.patients}")
        for step in lost.steps
    )
    typer.echo(fill("; ".join(counts), 100, initial_indent="  ", subsequent_indent="  "))


def start(
    config: Config = HERE,
    log: Log = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log debits too.")] = False,
) -> None:
    """Run the site's daemon in the foreground, until SIGTERM or Ctrl-C.

    Under systemd or in a container, for as long as this site takes part in studies. It connects to
    the coordinator, and again whenever the connection is lost; it answers for studies that
    site.yaml and your approvals allow, within the hours and the budget. Asked to stop, it finishes
    what it has paid for first; asked twice, it stops at once.

    Example: wardround-site start --config /srv/wardround --log json
    """
    forbid_core_dumps()
    with stop_signals.held() as signals:
        from client.config.resource_limits import limit_threads
        from client.log_events import configure, event

        site = load(config)
        configure(log, verbose=verbose)
        event("starting", site=site.site, coordinator=site.coordinator.address)
        limit_threads(site.policy)
        from client.daemon.trial import Trial

        trial = Trial.begin(site.policy)  # before there are threads
        from client.daemon.daemon import Daemon

        daemon = Daemon(site, trial.end)
        threading.Thread(
            target=_stop_on_signal, args=(daemon, signals), name="signals", daemon=True
        ).start()
        try:
            daemon.run()
        except WardroundError as error:
            if log == "text":
                raise
            why = {"code": error.code.value, "why": error.message, "do": error.remedy}
            event("failed", logging.ERROR, **why)
            raise typer.Exit(error.exit_status) from None
        sys.stderr.flush()
        os._exit(0)  # all is closed; unloading the numerical libraries would take seconds


def status(config: Config = HERE, as_json: Json = False) -> None:
    """Show the daemon's connection and study, the budget, the last error, receiver and reports.

    Of the receiver of pictures: what it has taken, from whom, and how much room it has. Of reports
    to the PACS: how many were taken, wait and were given up, and why. The first
    look when a study does not advance. Exit status: 0 running and connected, 4 running but not
    connected, 7 not running.

    Example: wardround-site status --json
    """
    from client.daemon import receiver_status
    from client.daemon.status import read, running
    from client.governance.budget import budget
    from client.prediction.state import deliveries

    with governing(config, None) as governance:
        site = governance.config
        runs, now = running(site.state), read(site.state)
        account = budget(governance.state, site.policy)
        waiting = governance.approvals.waiting()
        attention = governance.roster.now().attention()
    if runs and now is not None:
        attention = tuple(dict.fromkeys((*attention, *now.attention)))
    connected = runs and now is not None and now.connected
    receiver = receiver_status.read(site.state)
    reports = deliveries(site.state)
    if as_json:
        answer = {"site": site.site, "running": runs, "waiting": waiting}
        answer["attention"] = attention
        daemon = asdict(now) if now else None
        answer["receiver"] = asdict(receiver) if receiver else None
        answer["reports"] = {title: asdict(one) for title, one in reports.items()}
        print_json(answer | {"daemon": daemon, "budget": asdict(account)})
    else:
        lines = [("Site", site.site), ("Daemon", "running" if runs else "not running")]
        if runs and now is not None:
            lines += [
                ("Coordinator", f"{now.coordinator}, {'' if connected else 'not '}connected"),
                *([("Paused", "the coordinator's disk is full")] if now.coordinator_paused else []),
                ("Running for", f"{now.uptime / 3600:.1f} h (process {now.pid})"),
                ("Doing", now.phase),
                ("Answers", ", ".join(f"{n} {kind}" for kind, n in now.answers.items()) or "none"),
            ]
            if now.study is not None:
                of = f"round {now.round} of {now.rounds}, attempt {now.attempt}"
                lines.append(("Study", f"{now.study[:12]} {now.title or ''}, {of}"))
        if now is not None and now.last_error is not None:
            fault = now.last_error
            lines.append(("Last error", f"{fault.time} [{fault.code}] {fault.message}"))
        if receiver is not None:
            lines.append(("Receiver", str(receiver)))
        lines += [(f"Reports to {title}", str(one)) for title, one in reports.items()]
        lines += [("Attention", sentence) for sentence in attention]
        lines.append(("Waiting", f"{waiting} studies for your approval"))
        cap = f" of {account.cap:g}" if account.cap is not None else ""
        lines.append(("Budget", f"epsilon {rounded_up(account.reserved)}{cap} reserved or spent"))
        print_facts(lines, console())
    sys.exit(0 if connected else 4 if runs else 7)


def _stop_on_signal(daemon: Daemon, signals: set[signal.Signals]) -> None:
    """Stops the daemon at each signal; runs in a thread of its own."""
    from client.log_events import event

    while True:
        number = signal.sigwait(signals)
        event("stopping", signal=signal.Signals(number).name)
        daemon.stop()


def _show_finding(finding: CheckResult) -> None:
    from rich.text import Text

    mark, style = {
        True: ("pass", "green"),
        None: ("look", "yellow"),
        False: ("FAIL", "bold red"),
    }[finding.passed]
    screen = console()
    name, fact = (f"{printable(finding.name):23} ", "bold"), printable(finding.found)
    screen.print(Text.assemble((f"{mark}  ", style), name, fact), soft_wrap=True)
    if finding.remedy:
        remedy = Text(f"{'':30}{printable(finding.remedy)}", style="yellow")
        screen.print(remedy, soft_wrap=True)
