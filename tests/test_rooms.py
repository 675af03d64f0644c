"""Imports go down only, and each third-party package has one door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("protocol", "tasks", "client", "server", "launch")
MAY_IMPORT = {
    "protocol": {"protocol"},
    "tasks": {"protocol", "tasks"},
    "client": {"protocol", "tasks", "client"},
    "server": {"protocol", "tasks", "server"},
    "launch": {"protocol", "tasks", "client", "server", "launch"},
}
DOORS = {
    "mlflow": (
        "server/tracking/mlflow_run.py",
        "server/tracking/sweep_run.py",
        "server/released_model.py",
    ),
    "flwr": (
        "client/transport/fleet_connection.py",
        "client/transport/http_connection.py",
        "launch/federations/ray.py",
        "protocol/wire/flower_version.py",
        "protocol/wire/flower_encoding.py",
        "server/transport/",
    ),
    "ray": ("launch/federations/ray.py",),
    "joblib": ("launch/sweeps/sweep.py",),
    "opacus": ("client/training/dp_trainer.py", "client/training/bookkeeping.py"),
    "duckdb": ("client/data/",),
    "pydicom": (
        "client/data/",
        "launch/demo/synthetic_radiographs.py",
        "launch/demo/dicom_sender.py",
    ),
    "pynetdicom": ("client/data/", "launch/demo/dicom_sender.py"),
    "gdcm": ("client/data/dicom/pixels/decode.py",),
    "hydra": ("launch/config/compose.py",),
    "omegaconf": ("launch/config/compose.py", "launch/config/schema.py"),
    "dp_accounting": ("protocol/privacy/accounting.py", "protocol/privacy/renyi.py"),
}


def imports(file: Path) -> Iterator[str]:
    """Top-level names of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


def files() -> list[tuple[str, Path]]:
    return [(room, file) for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def test_there_is_something_to_check() -> None:
    assert len(files()) > 50
    assert "numpy" in set(imports(ROOT / "protocol/vectors.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for here, file in files()
        if here == room
        for name in imports(file)
        if name in ROOMS and name not in MAY_IMPORT[room]
    ]
    assert not wrong


@pytest.mark.parametrize("package", DOORS)
def test_a_third_party_package_has_one_door(package: str) -> None:
    wrong = [
        str(file.relative_to(ROOT))
        for _, file in files()
        if package in imports(file) and not str(file.relative_to(ROOT)).startswith(DOORS[package])
    ]
    assert not wrong
