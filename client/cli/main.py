"""The command `wardround-site`, with all its subcommands.

Each subcommand imports what it needs when it runs, so that --help answers at once.
"""

from __future__ import annotations

from client.cli import audit, cache, imaging, ledger, roster
from client.cli.backup import backup, restore
from client.cli.daemon import check, start, status
from client.cli.data import view
from client.cli.models import deliver, figures, personal, predict
from client.cli.setup import enrol, init, join
from client.cli.studies import approve, permit, reject, revoke, show, studies
from protocol.terminal import command_line
from protocol.terminal.command_line import CommandLine

PROGRAM = "wardround-site"

app = CommandLine(
    "A hospital's side of a wardround federation: patients' records stay here, only masked sums "
    "leave, and site.yaml decides for what.\n\n"
    "First steps: [bold]init[/], [bold]enrol[/], [bold]join[/], [bold]check[/], [bold]start[/]. "
    "Then, as studies come: [bold]studies[/], [bold]show[/], [bold]approve[/].\n\n"
    "Exit status: 0 done, 1 you answered no, 2 your input, 3 data, 4 connection or keys, 5 "
    "refused by this site's rules, 6 protocol, 7 this machine's state, 70 a fault of ours, 130 "
    "interrupted."
)
for commands in (
    (init, enrol, join, check, start, status, studies, show, approve, reject, revoke, permit),
    (personal, predict, figures, deliver, imaging.receive, imaging.index, view, backup, restore),
):
    for command in commands:
        app.command()(command)
app.add_typer(imaging.images_app, name="images")
app.add_typer(roster.app, name="roster")
app.add_typer(ledger.app, name="ledger")
app.add_typer(audit.app, name="audit")
app.add_typer(cache.app, name="cache")
command_line.complete(app, PROGRAM)


def main() -> None:
    """The console script."""
    command_line.run(app, PROGRAM)
