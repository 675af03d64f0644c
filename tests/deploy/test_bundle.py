"""A bundle installs without any network, or says what is wrong with it and changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from deploy.bundle import make
from deploy.bundle.install import Refused, read_manifest
from support.environment import closure
from tests.deploy.packed_wheels import invented, packed

PROGRAM = b"def site():\n    print('wardround-site %s')\n\n\ndef coordinator():\n    print('%s')\n"
SCRIPTS = "wardround-site = theirs:site\nwardround = theirs:coordinator"
NO_ROUTE = """
import errno, socket, sys
with socket.socket() as tried:
    sys.exit(0 if tried.connect_ex(("192.0.2.1", 443)) == errno.ENETUNREACH else 1)
"""
LOADED = """
import sys
from wardround.__main__ import site_main
sys.argv = ["wardround-site", "--version"]
try:
    site_main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@cache
def without_a_route() -> tuple[str, ...]:
    """A command's beginning by which it runs in a network namespace that has no route."""
    for words in (("unshare", "-n"), ("unshare", "-rn"), ("sudo", "-n", "unshare", "-n")):
        if shutil.which(words[0]):
            tried = subprocess.run([*words, sys.executable, "-c", NO_ROUTE], check=False)
            if tried.returncode == 0:
                return words
    pytest.fail(
        "No network namespace may be made here, so that nobody knows whether a bundle installs "
        "without internet. Run the test as root, or allow it: "
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )


def ours(folder: Path, version: str = "1.0", text: bytes = PROGRAM) -> Path:
    """A bundle of two small wheels; one has wardround's name and its commands."""
    wheels = folder / "wheels-of"
    module = text.replace(b"%s", version.encode())
    invented(wheels, "wardround", version, {"theirs.py": module}, SCRIPTS)
    invented(wheels, "lookup", "2.0", {"lookup.py": b"ANSWER = 42\n"})
    return make.assemble(wheels, {"site": ["lookup"], "coordinator": []}, folder)


def install(bundle: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """As an operator does it, without a route."""
    command = [*without_a_route(), sys.executable, bundle / "install.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def altered(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def says(target: Path, command: str = "wardround-site") -> str:
    done = subprocess.run(
        [target / "bin" / command, "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_a_site_is_installed_from_its_bundle_without_a_route(tmp_path: Path) -> None:
    """wardround's own wheel, as a bundle has it, and those that its first command loads."""
    seen = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    ).stderr.split()
    owners = metadata.packages_distributions()
    owned = {name for module in seen for name in owners.get(module, ())}
    needed = {canonicalize_name(name) for name in owned} - {"wardround"}
    wheels = tmp_path / "work" / "wheels"
    wheels.mkdir(parents=True)
    for name in needed:
        packed(name, wheels)
    make._build_own(wheels)
    bundle = make.assemble(wheels, {"site": needed, "coordinator": needed}, tmp_path)
    target = tmp_path / "opt"
    done = install(bundle, "site", target)
    assert done.returncode == 0, done.stderr
    asked = subprocess.run(
        [*without_a_route(), target / "bin/wardround-site", "--version"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert asked.stdout.startswith(f"wardround {metadata.version('wardround')} "), asked.stderr
    home = (target / "bin").resolve().parent
    (site_packages,) = home.glob("lib/python*/site-packages")
    for shipped in ("conf", "client/data/templates", "tasks/shipped/index.json"):
        assert (site_packages / shipped).exists()
    assert (bundle / "deploy/wardround-site.service").is_file()


@pytest.mark.slow
def test_an_upgrade_brings_what_changed_and_can_be_taken_back(tmp_path: Path) -> None:
    first = ours(tmp_path / "a")
    target = tmp_path / "opt"
    assert install(first, "site", target).returncode == 0
    assert says(target) == "wardround-site 1.0"

    wheels = tmp_path / "b/wheels-of"
    shutil.copytree(first / "wheels", wheels)
    (wheels / "wardround-1.0-py3-none-any.whl").unlink()
    module = PROGRAM.replace(b"%s", b"1.1")
    invented(wheels, "wardround", "1.1", {"theirs.py": module}, SCRIPTS)
    roles = {"site": ["lookup"], "coordinator": []}
    second = make.assemble(wheels, roles, tmp_path / "b", read_manifest(first))
    assert [file.name for file in (second / "wheels").iterdir()] == [
        "wardround-1.1-py3-none-any.whl"
    ]
    alone = install(second, "site", target)
    assert (alone.returncode, says(target)) == (2, "wardround-site 1.0")
    assert "The wheel lookup-2.0-py3-none-any.whl is missing." in alone.stderr
    assert "--before" in alone.stderr
    done = install(second, "site", target, "--before", first)
    assert (done.returncode, says(target)) == (0, "wardround-site 1.1"), done.stderr
    assert install(second, "back", target).returncode == 0
    assert says(target) == "wardround-site 1.0"


@pytest.mark.slow
def test_what_does_not_start_never_takes_the_place_of_what_does(tmp_path: Path) -> None:
    target = tmp_path / "opt"
    assert install(ours(tmp_path / "a"), "coordinator", target).returncode == 0
    broken = ours(tmp_path / "b", "1.1", b"raise ImportError('libgomp.so.1')\n")
    done = install(broken, "coordinator", target)
    assert done.returncode == 2
    assert "does not start" in done.stderr
    assert "libgomp.so.1" in done.stderr
    assert says(target, "wardround") == "1.0"
    assert len(list((target / "releases").glob("*/complete"))) == 1


def test_a_changed_wheel_is_named_and_nothing_is_installed(tmp_path: Path) -> None:
    bundle = ours(tmp_path)
    wheel = bundle / "wheels/lookup-2.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"!")
    for words in (("site", tmp_path / "opt"), ("verify",)):
        done = install(bundle, *words)
        assert done.returncode == 2
        assert f"{wheel.name} is not the one that the bundle was made with" in done.stderr
        assert "Copy the bundle again" in done.stderr
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("python", "3.99", ("The bundle is for CPython 3.99; this is cpython", "make bundle")),
        ("platform", "macosx-14.0-arm64", ("The bundle is for macosx-14.0-arm64; this is", "make")),
        ("glibc", [9, 99], ("The bundle needs glibc 9.99; this is", "distribution")),
        ("format", 2, ("The bundle has format 2; this installer reads 1.", "install.py")),
    ],
)
def test_a_bundle_of_another_machine_is_named(
    key: str, value: Any, told: tuple[str, str], tmp_path: Path
) -> None:
    bundle = ours(tmp_path)
    altered(bundle, lambda manifest: manifest.update({key: value}))
    done = install(bundle, "site", tmp_path / "opt")
    assert done.returncode == 2
    wrong, remedy = done.stderr.splitlines()
    assert told[0] in wrong
    assert told[1] in remedy
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda manifest: manifest.pop("python"), "manifest.json lacks python."),
        (lambda manifest: manifest["wheels"].clear(), "manifest.json lacks lookup-2.0-py3-none"),
    ],
)
def test_a_manifest_that_is_not_whole_is_named(
    change: Callable[[dict[str, Any]], None], told: str, tmp_path: Path
) -> None:
    bundle = ours(tmp_path)
    altered(bundle, change)
    done = install(bundle, "verify")
    assert done.returncode == 2
    wrong, remedy = done.stderr.splitlines()
    assert told in wrong
    assert "Copy the bundle again" in remedy


def test_a_bundle_before_that_is_another_is_named(tmp_path: Path) -> None:
    bundle, before = ours(tmp_path), "0123456789abcdef" * 4
    (bundle / "wheels/lookup-2.0-py3-none-any.whl").unlink()
    altered(bundle, lambda manifest: manifest.update(before=before))
    done = install(bundle, "site", tmp_path / "opt", "--before", tmp_path / "other")
    assert done.returncode == 2
    assert f"other has not got it: name the bundle of manifest {before[:16]}" in done.stderr


def test_the_manifest_is_compared_with_a_digest_that_came_another_way(tmp_path: Path) -> None:
    bundle = ours(tmp_path)
    digest = read_manifest(bundle)["digest"]
    assert digest in make.told(bundle)
    assert install(bundle, "verify", "--digest", digest.upper()).returncode == 0
    altered(bundle, lambda manifest: manifest["wheels"].clear())
    done = install(bundle, "verify", "--digest", digest)
    assert done.returncode == 2
    assert "Do not install" in done.stderr
    (bundle / "manifest.json").write_text('{"format": ')
    assert "cannot be read" in install(bundle, "verify").stderr


def test_a_folder_of_something_else_or_without_room_is_left_alone(tmp_path: Path) -> None:
    bundle = ours(tmp_path)
    other = tmp_path / "opt"
    other.mkdir()
    (other / "theirs").touch()
    assert "holds something else" in install(bundle, "site", other).stderr
    assert [file.name for file in other.iterdir()] == ["theirs"]
    assert "no release before" in install(bundle, "back", tmp_path / "none").stderr
    wheel = "lookup-2.0-py3-none-any.whl"
    altered(bundle, lambda manifest: manifest["wheels"][wheel].update(installed=10**15))
    assert "GB are needed" in install(bundle, "site", tmp_path / "new").stderr


def test_every_package_of_a_role_has_its_hash() -> None:
    for parts in make.PARTS.values():
        lines = make.pinned(closure(parts))
        pins = re.findall(r"^([\w.-]+)==[^\n]+\\\n +--hash=sha256:", lines, re.MULTILINE)
        assert {canonicalize_name(name) for name in pins} == closure(parts)
    with pytest.raises(Refused, match="no hash of left-out"):
        make.pinned(["left-out"])


def test_the_oldest_c_library_is_that_of_the_most_demanding_wheel() -> None:
    several = "a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    newer = "b-1-cp311-cp311-manylinux_2_28_x86_64.whl"
    assert make._glibc(["c-1-py3-none-any.whl"]) is None
    assert make._glibc([several]) == [2, 17]
    assert make._glibc([several, newer]) == [2, 28]
    here = make._glibc([f"d-1-cp311-cp311-{sysconfig.get_platform().replace('-', '_')}.whl"])
    assert here is not None
    assert here > [2, 17]


def test_a_cpu_only_pytorch_comes_from_the_index_that_is_named(tmp_path: Path) -> None:
    index = tmp_path / "index"
    for name in make.TORCH:
        version = metadata.version(name).partition("+")[0]
        wheel = invented(index / name, name, f"{version}+cpu", {f"{name}.py": b""})
        (index / name / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    wheels = tmp_path / "wheels"
    make._fetch_cpu_torch(index.as_uri(), wheels)
    invented(wheels, "wardround", "1.0", {})
    bundle = make.assemble(wheels, {"site": make.TORCH}, tmp_path)
    manifest = read_manifest(bundle)
    assert manifest["torch"] == "cpu"
    assert len(manifest["roles"]["site"]) == 3
