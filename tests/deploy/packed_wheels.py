"""Wheels without a network: of packages that are installed here, or invented."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name


def packed(name: str, folder: Path) -> Path:
    """The wheel that an installed distribution came from, but for its RECORD."""
    found = metadata.distribution(name)
    tags = [line.split(": ")[1] for line in _lines(found) if line.startswith("Tag: ")]
    parts = zip(*(tag.split("-") for tag in tags), strict=True)
    tag = "-".join(".".join(dict.fromkeys(part)) for part in parts)
    escaped = canonicalize_name(found.metadata["Name"]).replace("-", "_")
    left_out = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    content = {
        str(file): Path(str(file.locate())).read_bytes()
        for file in found.files or ()
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in left_out
    }
    info = f"{escaped}-{found.version}.dist-info"
    renamed = {
        f"{info}/{Path(path).relative_to(Path(path).parts[0])}"
        if Path(path).parts[0].endswith(".dist-info")
        else path: data
        for path, data in content.items()
    }
    return written(folder / f"{escaped}-{found.version}-{tag}.whl", renamed)


def invented(
    folder: Path, name: str, version: str, files: Mapping[str, bytes], scripts: str = ""
) -> Path:
    """A wheel of a few modules. scripts: lines as of `[console_scripts]`."""
    info = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{scripts}\n".encode(),
    }
    return written(folder / f"{name}-{version}-py3-none-any.whl", content)


def written(file: Path, content: Mapping[str, bytes]) -> Path:
    """A wheel of these files, which has no RECORD yet."""
    (info,) = {path.split("/")[0] for path in content if path.split("/")[0].endswith(".dist-info")}
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in sorted(content.items())]
    record = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as wheel:
        for path, data in sorted({**content, f"{info}/RECORD": record.encode()}.items()):
            wheel.writestr(zipfile.ZipInfo(path), data)
    return file


def _lines(found: metadata.Distribution) -> list[str]:
    return (found.read_text("WHEEL") or "").splitlines()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
