"""A bundle: everything that installs a site or a coordinator on a machine without internet.

    make bundle                      # in bundle/, for this Python and platform
    make bundle BEFORE=bundle/OLD    # only the wheels that changed since that bundle

A bundle is a folder: `install.py`, `manifest.json` (what it is for, and the SHA-256 of each wheel),
`wheels/`, and the files of `deploy/`. Packages are those of constraints.txt, taken by its hashes;
what has no wheel is built here. WARDROUND_TORCH_INDEX, the address of a package index with CPU-only
builds of PyTorch, makes it some gigabytes smaller: constraints.txt has no hashes of those, so that
they are as trustworthy as that index; from then on the manifest's hashes hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from deploy.bundle.install import FORMAT, Refused, digest, read_manifest  # noqa: E402 (once bench is found)
from support.environment import OWN, closure  # noqa: E402 (once bench is found)

PARTS = {"site": ("imaging", "databases"), "coordinator": ("mlflow",)}
"""Role -> the optional parts of the package that it gets."""
TORCH = ("torch", "torchvision")
GPU = ("nvidia-", "cuda-", "triton")
ROOMS = ("protocol", "tasks", "client", "server", "launch", "conf", "wardround")
BUILT = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}  # the same bytes, whenever built
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def main() -> int:
    options = argparse.ArgumentParser(description="Makes a bundle for machines without internet.")
    options.add_argument("--out", type=Path, default=ROOT / "bundle", help="a folder for bundles")
    options.add_argument("--before", type=Path, help="an earlier bundle: leave its wheels out")
    given = options.parse_args()
    try:
        before = read_manifest(given.before) if given.before else None
        made = make(given.out, os.environ.get("WARDROUND_TORCH_INDEX") or None, before)
    except Refused as refused:
        print(f"error: {refused}\n  {refused.remedy}", file=sys.stderr)
        return 2
    print(told(made))
    return 0


def make(out: Path, torch_index: str | None, before: Mapping[str, Any] | None) -> Path:
    """The folder of a new bundle; one of the same name is replaced."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".making-") as work:
        wheels = Path(work) / "wheels"
        wheels.mkdir()
        roles = {role: closure(parts) for role, parts in PARTS.items()}
        if torch_index:
            roles = {
                role: frozenset(name for name in names if not name.startswith(GPU))
                for role, names in roles.items()
            }
        wanted = frozenset().union(*roles.values())
        _fetch(wanted - set(TORCH) if torch_index else wanted, wheels)
        if torch_index:
            _fetch_cpu_torch(torch_index, wheels)
        _build_own(wheels)
        return assemble(wheels, roles, out, before)


def assemble(
    wheels: Path,
    roles: Mapping[str, Iterable[str]],
    out: Path,
    before: Mapping[str, Any] | None = None,
) -> Path:
    """A bundle of the wheels in a folder, which are moved into it.

    roles: role -> the distributions that it gets, by canonical name, wardround besides.
    """
    described = {file.name: _described(file) for file in sorted(wheels.glob("*.whl"))}
    by_name = {one["name"]: name for name, one in described.items()}
    known = before["wheels"] if before else {}
    (own,) = (one for one in described.values() if one["name"] == OWN)
    manifest = {
        "format": FORMAT,
        "release": own["version"],
        "python": "{}.{}".format(*sys.version_info[:2]),
        "platform": sysconfig.get_platform(),
        "glibc": _glibc(described),
        "torch": "cpu" if "+cpu" in by_name.get("torch", "") else "cuda",
        "before": before["digest"] if before else None,
        "roles": {
            role: sorted(by_name[name] for name in {*names, OWN}) for role, names in roles.items()
        },
        "wheels": described,
    }
    bundle = out / f"wardround-{own['version']}-cp{manifest['python']}-{manifest['platform']}"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir()
    shutil.move(wheels, bundle / "wheels")
    for name, one in described.items():
        if name in known and known[name]["sha256"] == one["sha256"]:
            (bundle / "wheels" / name).unlink()
    shutil.copy(Path(__file__).with_name("install.py"), bundle)
    shutil.copytree(ROOT / "deploy", bundle / "deploy", ignore=shutil.ignore_patterns("bundle"))
    (bundle / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return bundle


def told(bundle: Path) -> str:
    """What was made: sizes, and the digest that its receiver compares."""
    manifest = read_manifest(bundle)
    there = [file.stat().st_size for file in (bundle / "wheels").iterdir()]
    lines = [
        f"{bundle}: {sum(there) / 1e6:,.0f} MB, {len(there)} wheels, {manifest['torch']} PyTorch"
    ]
    for role, names in manifest["roles"].items():
        installed = sum(manifest["wheels"][name]["installed"] for name in names)
        lines.append(f"  {role}: {len(names)} packages, {installed / 1e6:,.0f} MB when installed")
    lines.append(f"  manifest.json: SHA-256 {manifest['digest']} (tell it by another way)")
    return "\n".join(lines)


def pinned(names: Iterable[str]) -> str:
    """The lines of constraints.txt for these distributions, with their hashes.

    Raises Refused where one has none.
    """
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    blocks: dict[NormalizedName, list[str]] = {}
    for block in re.findall(r"^[^#\s][^\n]*(?:\n[ \t][^\n]*)*", text, re.MULTILINE):
        name = canonicalize_name(re.split(r"[=;\[ ]", block, maxsplit=1)[0])
        blocks.setdefault(name, []).append(block)
    lines = []
    for name in sorted(map(canonicalize_name, names)):
        if name not in blocks:
            raise Refused(
                f"constraints.txt has no hash of {name}.", "Make it again (its first lines)."
            )
        lines += blocks[name]
    return "\n".join(lines) + "\n"


def _fetch(names: Iterable[str], wheels: Path) -> None:
    wanted = wheels.parent / "requirements.txt"
    wanted.write_text(pinned(names))
    _run(*PIP, "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--require-hashes",
         "--requirement", str(wanted), "--wheel-dir", str(wheels))  # fmt: skip


def _fetch_cpu_torch(index: str, wheels: Path) -> None:
    versions = [re.split(r"[\s;\\]", line, maxsplit=1)[0] for line in pinned(TORCH).splitlines()]
    wanted = [f"{version}+cpu" for version in versions if "==" in version]
    _run(*PIP, "download", "--no-cache-dir", "--no-deps", "--only-binary", ":all:",
         "--index-url", index, "--dest", str(wheels), *wanted)  # fmt: skip


def _build_own(wheels: Path) -> None:
    """From a copy: what an earlier build left behind beside the source would get in."""
    source = wheels.parent / "source"
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    _run(*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", str(source),
         "--wheel-dir", str(wheels))  # fmt: skip


def _run(*command: str) -> None:
    if subprocess.run(command, env=BUILT, check=False).returncode:
        raise Refused(
            f"{' '.join(command[2:6])} failed (see above).",
            "The package index must be reachable where a bundle is made.",
        )


def _described(file: Path) -> dict[str, Any]:
    name, version, _, _ = parse_wheel_filename(file.name)
    with zipfile.ZipFile(file) as content:
        installed = sum(one.file_size for one in content.infolist())
    return {"name": name, "version": str(version), "sha256": digest(file),
            "bytes": file.stat().st_size, "installed": installed}  # fmt: skip


def _glibc(wheels: Iterable[str]) -> list[int] | None:
    """The oldest glibc that every wheel takes, (major, minor); None where it does not matter.

    What was built here is linked to the glibc that is here.
    """
    needed = []
    for wheel in wheels:
        tags = re.findall(r"manylinux_(\d+)_(\d+)_", wheel)
        old = re.findall(r"manylinux(1|2010|2014)_", wheel)
        found = [(int(a), int(b)) for a, b in tags]
        found += [{"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}[year] for year in old]
        if wheel.endswith(f"-linux_{platform.machine()}.whl"):
            found.append(_version(platform.libc_ver()[1]))
        if found:
            needed.append(min(found))
    return list(max(needed)) if needed else None


def _version(text: str) -> tuple[int, int]:
    major, minor, *_ = map(int, text.split("."))
    return major, minor


if __name__ == "__main__":
    sys.exit(main())
