"""`wardround`: launch studies, run a coordinator, fetch public data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.analyse import analyse_app
from launch.cli.audit import audit_command
from launch.cli.coordinator.main import coordinator_app
from launch.cli.models import export, models_app
from launch.cli.query import query_app
from launch.cli.review import review_app
from launch.cli.run import Overrides, RunCommand, plan_command, run_command
from launch.cli.studies import studies_app
from launch.cli.task import task_app
from launch.cli.tasks import tasks_command
from launch.cli.tracking import tracking_app
from protocol.terminal import command_line
from protocol.terminal.command_line import CommandLine, Json, console, print_result
from protocol.terminal.printable import printable

PROGRAM = "wardround"

app = CommandLine(
    "Federated learning for hospitals: only sums leave the building.\n\n"
    "First steps: [bold]demo[/] shows a federation on this machine, [bold]tasks[/] what can be "
    "learned, [bold]plan[/] what a study costs; then [bold]run[/] and [bold]query[/]. Whoever "
    "runs the coordinator needs [bold]coordinator[/].\n\n"
    "Exit status: 0 done, 1 you answered no, 2 your input, 3 data, 4 connection or keys, 5 "
    "refused by a site's rules, 6 protocol, 7 this machine's state, 70 a fault of ours, 130 "
    "interrupted."
)
data = CommandLine("Public data for demos and benchmarks.")

app.command(name="run", cls=RunCommand)(run_command)
app.command(name="plan")(plan_command)
app.command(name="audit")(audit_command)
app.command(name="tasks")(tasks_command)
app.command()(export)


@data.command()
def fetch(
    task: Annotated[str, typer.Argument(help="A task with public data; `tasks` lists them.")],
    as_json: Json = False,
) -> None:
    """Download a task's public data, with checksums and a progress bar.

    Once for each task that you try on this machine. The files lie under WARDROUND_DATA, or in
    your data folder where that is not set; what is there and whole is not downloaded again.

    Example: wardround data fetch heart_disease
    """
    from launch.studies.public_data import fetch as fetch_data

    paths = fetch_data(task, console=console(stderr=True))
    print_result("\n".join(printable(str(path)) for path in paths), paths, as_json)


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="Where the new key is written; not there yet.")],
    as_json: Json = False,
) -> None:
    """Make the key with which you sign studies under a permit, and show its public half.

    Once for each person whom a permit names. Hospitals enter the public half beside the permit; the
    key itself stays with you.

    Example: wardround key ada.pem
    """
    from protocol.identity import Identity, fingerprint

    made = Identity.generate()
    made.save(file)
    public, short = made.public_key.hex(), fingerprint(made.public_key)
    said = f"{printable(str(file))}: give the hospitals {public}\nfingerprint {short}"
    print_result(said, {"public_key": public, "fingerprint": short}, as_json)


@app.command()
def demo(
    overrides: Overrides = None,
    task: Annotated[str, typer.Option(help="A task with public data.")] = "breast_cancer",
    folder: Annotated[Path, typer.Option(help="Where the demo lies; emptied at every run.")] = Path(
        "demo"
    ),
    as_json: Json = False,
) -> None:
    """Run a real federation of four hospitals on this machine, and compare its model.

    To see how the parts work together before you set any of them up: a coordinator, four daemons
    and MLflow as processes of their own, over TLS, on public data.

    Example: wardround demo --task heart_disease
    """
    from tasks import registry

    loaded = registry.load(task)
    from launch.demo.demo import Demo

    finished = Demo(folder, loaded, tuple(overrides or ())).run(console(stderr=True))
    if as_json:
        typer.echo((finished.folder / "summary.json").read_text(), nl=False)


@app.command()
def mlflow(
    folder: Annotated[Path, typer.Argument(help="The folder with mlflow.db.")] = Path(
        "demo/mlflow"
    ),
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0: a free one.")
    ] = 5000,
    as_json: Json = False,
) -> None:
    """Serve the MLflow of a demo or of a federation until Ctrl-C.

    After `wardround demo`, to look at its study and its model in a browser, which asks for a user
    (wardround) and a password (in FOLDER/password). In a folder that `wardround coordinator mlflow`
    made: over TLS, with the people and at the address of its mlflow.yaml, and --port is not used.

    Example: wardround mlflow demo/mlflow --port 5001
    """
    from launch.tracking_server import settings

    if (folder / settings.FILE).exists():
        from launch.tracking_server.serve import serve

        serve(folder)
        return
    import threading

    from launch.demo.mlflow_app import USER
    from launch.demo.mlflow_server import MlflowServer

    with MlflowServer(folder, port) as server:
        done = f"MLflow: {server.page}  (Ctrl-C ends it)\n{server.login}"
        facts = {"url": server.page, "user": USER, "password_file": server.password}
        print_result(done, facts, as_json)
        threading.Event().wait()


@app.command()
def login(
    file: Annotated[Path, typer.Argument(help="NAME.credentials.json, from the operator.")],
    as_json: Json = False,
) -> None:
    """Try the credentials that a coordinator's operator gave you, and keep them.

    Once, and again when you get new ones. `run` and `plan` with federation=deployment then need no
    federation.credentials.

    Example: wardround login ada.credentials.json
    """
    from launch.federations.login import kept_credentials
    from launch.federations.login import login as keep

    account, patients = keep(file)
    lines = [f"{printable(site):<24} {number} patients" for site, number in patients.items()]
    print_result(
        "\n".join([f"{account.account} at {account.coordinator}", *lines]),
        {"account": account.account, "coordinator": account.coordinator, "sites": patients}
        | {"kept": kept_credentials()},
        as_json,
    )


app.add_typer(data, name="data")
app.add_typer(coordinator_app, name="coordinator")
app.add_typer(models_app, name="models")
app.add_typer(query_app, name="query")
app.add_typer(analyse_app, name="analyse")
app.add_typer(review_app, name="review")
app.add_typer(studies_app, name="studies")
app.add_typer(task_app, name="task")
app.add_typer(tracking_app, name="tracking")
command_line.complete(app, PROGRAM)


def main() -> None:
    """The console script."""
    command_line.run(app, PROGRAM)
