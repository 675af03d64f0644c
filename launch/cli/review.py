"""`wardround review`: say yes or no to a model, signed, for everybody who will use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.terminal.command_line import CommandLine, Json, console, print_json, print_result
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from launch.review.decide import Review
    from protocol.models.decision import Verdict

review_app = CommandLine(
    "Judge registered models: a signed yes or no, with a reason.\n\n"
    "First steps: [bold]key[/] once, and send what it shows to the coordinator's operator; then "
    "[bold]show[/] a candidate, and [bold]approve[/] or [bold]reject[/] it. Hospitals use what is "
    "approved, until somebody takes it back with [bold]withdraw[/]."
)

Model = Annotated[str, typer.Argument(help="The registered model's name in MLflow.")]
Version = Annotated[str, typer.Argument(help="Its version, a number.")]
Reason = Annotated[
    str, typer.Option(help="Why, in a sentence or two: whoever uses the model reads it.")
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        envvar="WARDROUND_REVIEWER_KEY",
        help="Your own key.",
        show_default="reviewer.key in your configuration folder",
    ),
]
Credentials = Annotated[
    Path | None,
    typer.Option(
        envvar="WARDROUND_CREDENTIALS",
        help="The file that the operator made for you.",
        show_default="what `wardround login` kept",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--coordinator",
        envvar="WARDROUND_COORDINATOR",
        help="host:port, instead of the one in the credentials.",
    ),
]
Tracking = Annotated[
    str | None,
    typer.Option(help="MLflow's server, http(s)://...", show_default="MLFLOW_TRACKING_URI"),
]


Audit = Annotated[
    Path | None,
    typer.Option(
        help="The summary.json that `wardround audit --study` wrote, where the study's gates ask "
        "for an audit."
    ),
]


@review_app.command("key")
def key_command(key: KeyFile = None, as_json: Json = False) -> None:
    """Show your public key, and make the key itself the first time.

    Once, at your own machine, where the key stays. Send what is shown to the coordinator's operator
    and compare the fingerprint by telephone: `wardround coordinator account key NAME KEY`.

    Example: wardround review key
    """
    from launch.review.reviewer_key import kept_key, reviewer_key
    from protocol.identity import fingerprint

    path = key or kept_key()
    public = reviewer_key(path, make=True).public_key
    facts = {"file": path, "key": public.hex(), "fingerprint": fingerprint(public)}
    print_result(
        f"key          {facts['key']}\nfingerprint  {facts['fingerprint']}", facts, as_json
    )


@review_app.command()
def approve(
    model: Model,
    version: Version,
    reason: Reason,
    audit: Audit = None,
    key: KeyFile = None,
    credentials: Credentials = None,
    coordinator: Address = None,
    tracking: Tracking = None,
    as_json: Json = False,
) -> None:
    """Approve a version: hospitals that trust your key may use it from then on.

    When the card, the figures and the gates have convinced you. Every file is verified before your
    key signs. Refused for a study of your own, and where a gate of the study does not hold.

    Example: wardround review approve heart_disease 3 --reason "AUC 0.81 or more, well calibrated"
    """
    where = _review(credentials, coordinator, tracking)
    _decide(where, key, "approved", model, version, reason, as_json, audit)


@review_app.command()
def reject(
    model: Model,
    version: Version,
    reason: Reason,
    key: KeyFile = None,
    credentials: Credentials = None,
    coordinator: Address = None,
    tracking: Tracking = None,
    as_json: Json = False,
) -> None:
    """Reject a candidate; the reason stays with it.

    When it must not be used. A rejected version may be approved later, with a new reason.

    Example: wardround review reject heart_disease 3 --reason "calibration is off above 0.8"
    """
    where = _review(credentials, coordinator, tracking)
    _decide(where, key, "rejected", model, version, reason, as_json)


@review_app.command()
def withdraw(
    model: Model,
    version: Version,
    reason: Reason,
    key: KeyFile = None,
    credentials: Credentials = None,
    coordinator: Address = None,
    tracking: Tracking = None,
    as_json: Json = False,
) -> None:
    """Take an approval back: hospitals refuse the model once they hear of it.

    When something has come to light. Any reviewer may. Connected hospitals hear of it within a
    minute; the bundles that they hold are refused from then on.

    Example: wardround review withdraw heart_disease 3 --reason "a scanner's update changed inputs"
    """
    where = _review(credentials, coordinator, tracking)
    _decide(where, key, "withdrawn", model, version, reason, as_json)


@review_app.command()
def confirm(
    model: Model,
    reason: Reason,
    audit: Audit = None,
    key: KeyFile = None,
    credentials: Credentials = None,
    coordinator: Address = None,
    tracking: Tracking = None,
    as_json: Json = False,
) -> None:
    """Sign the approval that you have set as the alias `approved` in MLflow's own pages.

    Without it the alias counts for nothing: MLflow shows it as not signed within a minute, and
    nothing uses the model.

    Example: wardround review confirm heart_disease --reason "AUC 0.81 or more, well calibrated"
    """
    from server.tracking.registered_model import aliased

    version = aliased(model, tracking)
    where = _review(credentials, coordinator, tracking)
    _decide(where, key, "approved", model, version, reason, as_json, audit)


@review_app.command("list")
def list_command(
    credentials: Credentials = None, coordinator: Address = None, as_json: Json = False
) -> None:
    """List what was decided about each version, by whom and why, the latest first.

    To see what is approved now. The coordinator's record is checked, entry by entry.

    Example: wardround review list
    """
    history = _review(credentials, coordinator, None).history()
    last = {(one.decision.model, one.decision.version): one for one in history.entries}
    decisions = [one.decision for one in reversed(list(last.values()))]
    if as_json:
        print_json([decision.model_dump(mode="json") for decision in decisions])
        return
    if not decisions:
        typer.echo("Nothing has been decided yet.")
        return
    from rich.table import Table

    table = Table("model", "version", "decision", "by", "on", "reason", box=None)
    for of in decisions:
        cells = (of.model, of.version, of.verdict, of.reviewer, of.time[:10], of.reason)
        table.add_row(*map(printable, cells))
    console().print(table)


@review_app.command()
def show(
    model: Model,
    version: Version,
    credentials: Credentials = None,
    coordinator: Address = None,
    tracking: Tracking = None,
    as_json: Json = False,
) -> None:
    """Show where a version comes from, which gates it passes, and what was decided about it.

    Before you decide. Every file of the model is verified first. The card and the figures are in
    MLflow, on the page of the run that made it.

    Example: wardround review show heart_disease 3
    """
    from launch.review.lineage import lineage

    found = lineage(_review(credentials, coordinator, tracking), model, version)
    if as_json:
        print_json(found.plain())
        return
    typer.echo("\n".join(printable(line) for line in found.lines()))


def _review(credentials: Path | None, coordinator: str | None, tracking: str | None) -> Review:
    from launch.federations.login import kept_credentials
    from launch.review.decide import Review

    file = (credentials or kept_credentials()).expanduser()
    return Review(file, coordinator, tracking)


def _decide(
    where: Review,
    key: Path | None,
    verdict: Verdict,
    model: str,
    version: str,
    reason: str,
    as_json: bool,
    audit: Path | None = None,
) -> None:
    from launch.review.reviewer_key import kept_key, reviewer_key

    mine = reviewer_key(key or kept_key())
    taken = where.decide(mine, verdict, model, version, reason, audit)
    of, number = taken.decision, taken.entry.number
    facts = of.model_dump(mode="json") | {"number": number}
    done = f"{of.model} version {of.version} is {of.verdict} (entry {number} of the record)."
    print_result(printable(done), facts, as_json)
