"""Imports go down only, from package to package; each third-party package has one door."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "protocol": {"protocol"},
    "tasks": {"protocol", "tasks"},
    "client": {"protocol", "tasks", "client"},
    "server": {"protocol", "tasks", "server"},
    "launch": {"protocol", "tasks", "client", "server", "launch"},
    "wardround": {"protocol", "tasks", "client", "server", "launch", "wardround"},
}
ORDER = {
    "protocol": (
        "protocol",
        "protocol.outcomes",
        "protocol.study",
        "protocol.secagg",
        "protocol.privacy",
        "protocol.models",
        "protocol.metrics",
        "protocol.statistics",
        "protocol.statistics.harmonisation",
        "protocol.statistics.analyses",
        "protocol.exact",
        "protocol.wire",
        "protocol.terminal",
        "protocol.operations",
        "protocol.yaml",
    ),
    "tasks": (
        "tasks.losses",
        "tasks",
        "tasks.published_scores",
        "tasks.models",
        "tasks.datasets",
        "tasks.shipped",
        "tasks.examples",
    ),
    "client": (
        "client",
        "client.data.dicom",
        "client.data.dicom.objects",
        "client.data.dicom.pixels",
        "client.data.dicom.index",
        "client.data.dicom.receive",
        "client.data.dicom.results",
        "client.data.templates",
        "client.data.sources",
        "client.data.sources.files",
        "client.data.sources.databases",
        "client.data.fhir",
        "client.data",
        "client.config",
        "client.governance",
        "client.transport",
        "client.enrolment",
        "client.cohorts",
        "client.prediction",
        "client.training.algorithms",
        "client.training.devices",
        "client.training",
        "client.privacy_audit",
        "client.daemon.answers",
        "client.daemon",
        "client.daemon.operations",
        "client.checks",
        "client.approver",
        "client.cli",
    ),
    "server": (
        "server",
        "server.enrolment",
        "server.model",
        "server.rounds",
        "server.transport",
        "server.answers",
        "server.report",
        "server.tracking",
        "server.review",
        "server.coordinator",
        "server.coordinator.operations",
        "server.undelivered",
    ),
    "launch": (
        "launch",
        "launch.config",
        "launch.federations",
        "launch.studies",
        "launch.studies.plans",
        "launch.studies.sweeps",
        "launch.queries",
        "launch.review",
        "launch.demo",
        "launch.tracking_server",
        "launch.authoring",
        "launch.cli.coordinator",
        "launch.cli",
    ),
    "wardround": ("wardround",),
}
"""Room -> its packages, each of which may import itself and what stands before it. A module of its
own (server.undelivered) stands here where users know it by that name."""
MAX_MODULES, MEDIAN_MODULES = 15, 8
DOORS = {
    "mlflow": (
        "launch/demo/mlflow_app.py",
        "launch/tracking_server/serve.py",
        "launch/tracking_server/users.py",
        "server/review/registry_follower.py",
        "server/tracking/mlflow_run.py",
        "server/tracking/registered_model.py",
        "server/tracking/report_run.py",
        "server/released_model.py",
    ),
    "flwr": (
        "client/transport/fleet_calls.py",
        "client/transport/fleet_connection.py",
        "client/transport/http_connection.py",
        "client/transport/object_transfer.py",
        "launch/federations/ray.py",
        "protocol/wire/flower_version.py",
        "protocol/wire/flower_encoding.py",
        "server/transport/",
    ),
    "ray": ("launch/federations/ray.py", "launch/federations/ray_cluster.py"),
    "joblib": ("launch/studies/sweeps/sweep.py",),
    "opacus": ("client/training/algorithms/patient_optimizer.py", "client/training/bookkeeping.py"),
    "duckdb": ("client/data/",),
    "pydicom": (
        "client/data/",
        "launch/demo/synthetic_radiographs.py",
        "launch/demo/dicom_sender.py",
    ),
    "highdicom": ("client/data/",),
    "pynetdicom": ("client/data/", "launch/demo/dicom_sender.py"),
    "gdcm": ("client/data/dicom/pixels/decode.py",),
    "safetensors": ("protocol/models/bundle.py",),
    "openpyxl": ("client/data/sources/files/workbook.py",),
    "hydra": ("launch/config/compose.py",),
    "omegaconf": ("launch/config/compose.py", "launch/config/schema.py"),
    "typer": ("protocol/terminal/", "client/cli/", "launch/cli/"),
    "click": ("protocol/terminal/", "client/cli/", "launch/cli/"),
    "rich": ("protocol/terminal/", "client/", "launch/"),
    "dp_accounting": ("protocol/privacy/accounting.py", "protocol/privacy/privacy_losses.py"),
}


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of all rooms."""
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for room in MAY_IMPORT
        for file in sorted((ROOT / room).rglob("*.py"))
    }


@cache
def imports(file: Path) -> tuple[str, ...]:
    """Dotted names of every import in a file, those inside functions too."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else node.module


def package(module: str) -> str:
    """The entry of ORDER that a module belongs to."""
    if module in ORDER[module.partition(".")[0]] or modules()[module].name == "__init__.py":
        return module
    return module.rpartition(".")[0]


def own_imports(module: str) -> set[str]:
    """The modules of this project that a module imports."""
    return {name for name in imports(modules()[module]) if name in modules()} - {module}


def test_there_is_something_to_check() -> None:
    assert len(modules()) > 200
    assert "numpy" in set(imports(ROOT / "protocol/vectors.py"))
    assert "protocol.study.study" in own_imports("client.daemon.site")


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, file in modules().items()
        if module.partition(".")[0] == room
        for name in imports(file)
        if name.partition(".")[0] in MAY_IMPORT and name.partition(".")[0] not in MAY_IMPORT[room]
    ]
    assert not wrong


@pytest.mark.parametrize("room", ORDER)
def test_every_package_has_its_place(room: str) -> None:
    found = {package(module) for module in modules() if module.partition(".")[0] == room}
    assert found == set(ORDER[room])


@pytest.mark.parametrize("room", ORDER)
def test_a_package_imports_only_packages_before_it(room: str) -> None:
    place = {name: number for number, name in enumerate(ORDER[room])}
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if module.partition(".")[0] == room
        for name in own_imports(module)
        if name.partition(".")[0] == room and place[package(name)] > place[package(module)]
    ]
    assert not wrong


def test_no_modules_import_each_other() -> None:
    reach = {module: own_imports(module) for module in modules()}
    for via in modules():  # Warshall: what is reached through each module in turn
        for found in reach.values():
            if via in found:
                found |= reach[via]
    circles = {
        tuple(sorted(other for other in found if module in reach[other]))
        for module, found in reach.items()
        if module in found
    }
    assert not circles


def test_no_folder_holds_more_than_a_person_takes_in() -> None:
    sizes: dict[Path, int] = {}
    for file in modules().values():
        sizes[file.parent] = sizes.get(file.parent, 0) + (file.name != "__init__.py")
    assert {str(f.relative_to(ROOT)): n for f, n in sizes.items() if n > MAX_MODULES} == {}
    assert median(n for n in sizes.values() if n) <= MEDIAN_MODULES


@pytest.mark.parametrize("third_party", DOORS)
def test_a_third_party_package_has_one_door(third_party: str) -> None:
    wrong = [
        module
        for module, file in modules().items()
        if third_party in {name.partition(".")[0] for name in imports(file)}
        and not str(file.relative_to(ROOT)).startswith(DOORS[third_party])
    ]
    assert not wrong
