"""`wardround coordinator`: set up and run a coordinator, enrol hospitals, make accounts."""

from __future__ import annotations

from launch.cli.coordinator.accounts import account_app
from launch.cli.coordinator.backup import backup, history, restore
from launch.cli.coordinator.running import cancel, prune, start, status
from launch.cli.coordinator.setup import bundle, init, mlflow, renew, setup
from launch.cli.coordinator.sites import enrol, expel, revoke, rotate, withdraw
from protocol.terminal.command_line import CommandLine

coordinator_app = CommandLine(
    "Run a coordinator: sites, accounts, studies.\n\n"
    "First steps: [bold]setup[/] from consortium.yaml, [bold]start[/], and [bold]setup[/] again "
    "when the hospitals have answered. By hand: [bold]init[/], [bold]enrol[/], [bold]bundle[/], "
    "[bold]account add[/]."
)
for commands in (
    (init, setup, mlflow, start, status, enrol, withdraw, rotate, expel, revoke, bundle, renew),
    (backup, restore, history, prune, cancel),
):
    for command in commands:
        coordinator_app.command()(command)
coordinator_app.add_typer(account_app, name="account")
