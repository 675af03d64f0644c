"""The optional parts of the installation: what may be missing, and what to say then.

`pyproject.toml` lists the packages of each (`[project.optional-dependencies]`). A site needs none
but what its site.yaml names, a coordinator none but `mlflow`.
"""

from __future__ import annotations

import importlib.util
from enum import StrEnum

from protocol.errors import Code, WardroundError


class Extra(StrEnum):
    """Its value is its name for pip: wardround[NAME]."""

    RAY = "ray"
    MLFLOW = "mlflow"
    IMAGING = "imaging"
    DATABASES = "databases"
    NOTEBOOKS = "notebooks"


IMPORTED = {
    "ray": Extra.RAY,
    "mlflow": Extra.MLFLOW,
    "pydicom": Extra.IMAGING,
    "pynetdicom": Extra.IMAGING,
    "gdcm": Extra.IMAGING,
    "pylibjpeg": Extra.IMAGING,
    "openjpeg": Extra.IMAGING,
    "rle": Extra.IMAGING,
    "jpeg_ls": Extra.IMAGING,
    "highdicom": Extra.IMAGING,
    "duckdb_extension_mysql_scanner": Extra.DATABASES,
    "duckdb_extension_postgres_scanner": Extra.DATABASES,
    "duckdb_extension_sqlite_scanner": Extra.DATABASES,
    "ipykernel": Extra.NOTEBOOKS,
}
"""Name in an import statement -> the part that has it."""


def require(extra: Extra) -> None:
    """Raises WardroundError(CONFIGURATION) where a part is not installed; imports nothing."""
    for module, part in IMPORTED.items():
        if part is extra and importlib.util.find_spec(module) is None:
            raise lacking(extra)


def lacking(extra: Extra) -> WardroundError:
    """To be raised where a part is missing."""
    return WardroundError(
        Code.CONFIGURATION,
        f"This needs the optional part {extra} of wardround, which is not installed here.",
        remedy=f'Run `pip install "wardround[{extra}]"` (with the pins: -c constraints.txt), or '
        f"install a bundle made with it.",
    )


def explained(error: ImportError) -> WardroundError | None:
    """What an import that failed is about, where that is a part that is not installed."""
    extra = IMPORTED.get((error.name or "").partition(".")[0])
    return lacking(extra) if extra is not None and isinstance(error, ModuleNotFoundError) else None
