"""start, status, check: the daemon in daily life."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from client.cli_options import HERE, Config, load
from protocol.errors import Code, WardroundError

if TYPE_CHECKING:
    from client.daemon import Daemon


def mount(app: typer.Typer) -> None:
    app.command()(start)


def start(
    config: Config = HERE,
    log: Annotated[str, typer.Option(help="How to log: text or json.")] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log debits too.")] = False,
) -> None:
    """Run the site's daemon in the foreground, until SIGTERM or Ctrl-C.

    It connects to the coordinator, and again whenever the connection is lost; it answers for
    studies that site.yaml and your approvals allow, within the hours and the budget. Asked to
    stop, it finishes what it has paid for first; asked twice, it stops at once.
    """
    if log not in ("text", "json"):
        raise WardroundError(Code.USAGE, f"--log is {log}.", remedy="It can be: text, json.")
    style: Literal["text", "json"] = "json" if log == "json" else "text"
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before any thread: all inherit it
    from client.limits import limit_threads
    from client.logs import configure, event

    site = load(config)
    configure(style, verbose=verbose)
    event("starting", site=site.site, coordinator=site.coordinator.address)
    limit_threads(site.policy)
    from client.daemon import Daemon

    daemon = Daemon(site)
    threading.Thread(target=_obey, args=(daemon, signals), name="signals", daemon=True).start()
    daemon.run()


def _obey(daemon: Daemon, signals: set[signal.Signals]) -> None:
    """Signals are waited for in a thread of their own: a handler in the loop's thread could find
    a lock held by the very code that it interrupted."""
    from client.logs import event

    while True:
        number = signal.sigwait(signals)
        event("stopping", signal=signal.Signals(number).name)
        daemon.stop()
