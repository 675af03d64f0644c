#!/usr/bin/env python3
"""Installs wardround from the folder that this file lies in, without any network.

    python3 install.py verify                      # nothing is installed
    python3 install.py site /opt/wardround         # or: coordinator
    python3 install.py back /opt/wardround         # to the release that was installed before

Needs nothing but the Python that the bundle was made for, with its `venv`. Every wheel is compared
with manifest.json, and pip compares it again. A release gets an environment of its own under
TARGET/releases; TARGET/bin, which the units in `deploy/` name, leads to the current one and is
moved only after the new one has answered. So an upgrade that fails changes nothing, and the release
before stays until the next upgrade.

Annotations are quoted, so that an older Python gets as far as saying which one is needed.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FORMAT = 1
COMMANDS = {"site": "wardround-site", "coordinator": "wardround"}
FIELDS = {"release", "python", "platform", "glibc", "before", "roles", "wheels"}
OLDEST = (3, 11)  # the oldest Python that wardround runs on
COMPLETE = "complete"  # a file in an environment that is whole: its text is the manifest's digest


class Refused(Exception):
    """What is wrong, and what to do."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(wrong)
        self.remedy = remedy


def main(words: "list[str] | None" = None) -> int:
    parser = argparse.ArgumentParser(
        description="Installs wardround from this folder, without a network."
    )
    parser.add_argument("what", choices=("site", "coordinator", "verify", "back"))
    parser.add_argument("target", nargs="?", type=Path, help="a folder, /opt/wardround say")
    parser.add_argument(
        "--before", type=Path, help="the bundle before, for wheels that this one leaves to it"
    )
    parser.add_argument(
        "--digest", help="SHA-256 of manifest.json, as you got it by another way than this bundle"
    )
    given = parser.parse_args(words)
    if given.target is None and given.what != "verify":
        parser.error("say where: install.py site /opt/wardround")
    try:
        if given.what == "back":
            back(given.target.absolute())
        else:
            manifest = read_manifest(HERE, given.digest)
            check_machine(manifest)
            roles = COMMANDS if given.what == "verify" else (given.what,)
            names = sorted({name for role in roles for name in manifest["roles"][role]})
            wheels = find_wheels(manifest, names, given.before)
            print(f"{len(wheels)} wheels of wardround {manifest['release']} are as they were made")
            if given.what != "verify":
                install(manifest, given.what, given.target.absolute(), wheels)
    except Refused as refused:
        print(f"error: {refused}\n  {refused.remedy}", file=sys.stderr)
        return 2
    return 0


def read_manifest(bundle: Path, expected: "str | None" = None) -> "dict[str, Any]":
    """Raises Refused where it is missing, damaged, of another format or not the expected one."""
    file = bundle / "manifest.json"
    try:
        content = file.read_bytes()
        manifest: dict[str, Any] = json.loads(content)
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{file} cannot be read.", "Copy the whole bundle again.") from error
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected.strip().lower():
        raise Refused(
            f"manifest.json has the digest {found}, not the one that you gave.",
            "Do not install. Ask whoever made the bundle for its digest, by telephone say.",
        )
    if version != FORMAT:
        raise Refused(
            f"The bundle has format {version}; this installer reads {FORMAT}.",
            "Use the install.py that lies in the bundle.",
        )
    lacking = sorted(FIELDS - set(manifest))
    if not lacking:
        named = {name for names in manifest["roles"].values() for name in names}
        lacking = sorted(named - set(manifest["wheels"]))
    if lacking:
        raise Refused(
            f"{file} lacks {', '.join(lacking[:3])}.",
            "Copy the bundle again, or ask whoever made it.",
        )
    manifest["digest"] = found
    return manifest


def check_machine(manifest: "dict[str, Any]") -> None:
    """Raises Refused where the bundle was made for another Python or platform."""
    python = "{}.{}".format(*sys.version_info[:2])
    another = (
        f"have a bundle made on a machine like this one (`make bundle PYTHON=python{python}`)."
    )
    if (sys.implementation.name, python) != ("cpython", manifest["python"]):
        raise Refused(
            f"The bundle is for CPython {manifest['python']}; this is "
            f"{sys.implementation.name} {python}.",
            f"Run it with python{manifest['python']}"
            + (f", or {another}" if sys.version_info[:2] >= OLDEST else "."),
        )
    if sysconfig.get_platform() != manifest["platform"]:
        raise Refused(
            f"The bundle is for {manifest['platform']}; this is {sysconfig.get_platform()}.",
            f"Run it where it belongs, or {another}",
        )
    if manifest["glibc"] is not None:
        kind, version = platform.libc_ver()
        numbers = tuple(int(part) for part in version.split(".")[:2]) if kind == "glibc" else (0, 0)
        if numbers < tuple(manifest["glibc"]):
            raise Refused(
                "The bundle needs glibc {}.{}; this is {}.".format(
                    *manifest["glibc"], f"{kind} {version}".strip() or "another C library"
                ),
                "Use a distribution that has it (2.28: Debian 10, RHEL 8, Ubuntu 18.10 or newer).",
            )


def find_wheels(
    manifest: "dict[str, Any]", names: "list[str]", before: "Path | None"
) -> "dict[str, Path]":
    """File name -> where it lies, each compared with the manifest. Raises Refused by its name."""
    found = {}
    for name in names:
        places = [HERE / "wheels"] + ([before / "wheels"] if before else [])
        file = next((place / name for place in places if (place / name).is_file()), None)
        if file is None:
            raise Refused(f"The wheel {name} is missing.", _where_it_is(manifest, before))
        if digest(file) != manifest["wheels"][name]["sha256"]:
            raise Refused(
                f"The wheel {name} is not the one that the bundle was made with.",
                "Do not install. Copy the bundle again, or ask whoever made it.",
            )
        found[name] = file
    return found


def _where_it_is(manifest: "dict[str, Any]", before: "Path | None") -> str:
    """What to do where a wheel is missing."""
    if not manifest["before"]:
        return "Copy the whole bundle again."
    named = f"the bundle of manifest {manifest['before'][:16]} with --before"
    if before is None:
        return f"Name {named}: this one has only what changed since."
    return f"{before} has not got it: name {named}, in full."


def install(manifest: "dict[str, Any]", role: str, target: Path, wheels: "dict[str, Path]") -> None:
    releases = target / "releases"
    if target.exists() and not releases.is_dir() and any(target.iterdir()):
        raise Refused(
            f"{target} holds something else.", "Name a folder that is empty or does not exist."
        )
    os.umask(0o022)  # whoever runs the services may read it; nobody but its owner may change it
    _make(releases)
    home = releases / f"{manifest['release']}-{role}-{manifest['digest'][:12]}"
    if not (home / COMPLETE).is_file():
        _check_room(target, sum(manifest["wheels"][name]["installed"] for name in wheels))
        shutil.rmtree(home, ignore_errors=True)
        _fill(home, manifest, wheels)
        _answers(home, role, manifest["release"])
        (home / COMPLETE).write_text(manifest["digest"])
    replaced = _current(target)
    _switch(target, home)
    for other in releases.iterdir():
        if other not in (home, replaced):
            shutil.rmtree(other)
    print(f"wardround {manifest['release']} ({role}) is installed: {target}/bin/{COMMANDS[role]}")
    if replaced not in (None, home):
        print(f"Restart its services. To go back: python3 {HERE / 'install.py'} back {target}")


def back(target: Path) -> None:
    """To the other release that is installed. Raises Refused where there is none."""
    now = _current(target)
    others = [file.parent for file in target.glob(f"releases/*/{COMPLETE}") if file.parent != now]
    if now is None or not others:
        raise Refused(
            f"{target} holds no release before the current one.",
            "Install from the bundle of the release that you want.",
        )
    _switch(target, others[0])
    print(f"{target}/bin is now that of {others[0].name}. Restart its services.")


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder} cannot be made: {error.strerror}.", "Run it as root.") from error


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target).free
    if free < needed * 1.1:
        raise Refused(
            f"{target} has {free / 1e9:.1f} GB free; {needed * 1.1 / 1e9:.1f} GB are needed.",
            "Make room, or name a folder on another disk.",
        )


def _fill(home: Path, manifest: "dict[str, Any]", wheels: "dict[str, Path]") -> None:
    """A virtual environment with these wheels and nothing else."""
    try:
        venv.create(home, symlinks=os.name != "nt", with_pip=True)
    except (subprocess.CalledProcessError, ImportError) as error:
        shutil.rmtree(home, ignore_errors=True)
        raise Refused(
            "This Python cannot make an environment with pip.",
            f"Install your distribution's package python{manifest['python']}-venv.",
        ) from error
    wanted = home / "requirements.txt"
    wanted.write_text(
        "".join(
            f"{one['name']}=={one['version']} --hash=sha256:{one['sha256']}\n"
            for one in (manifest["wheels"][name] for name in sorted(wheels))
        )
    )
    folders = sorted({str(file.parent) for file in wheels.values()})
    links = [word for folder in folders for word in ("--find-links", folder)]
    pip = [str(_python(home)), "-I", "-m", "pip", "--isolated", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--no-cache-dir", "--no-index", *links, "--no-deps",
         "--only-binary", ":all:", "--require-hashes", "--requirement", str(wanted)],
        check=False,
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(home, ignore_errors=True)
        raise Refused(
            "pip could not install the wheels (see above).",
            "Nothing has changed. Copy the bundle again, or send this output to whoever made it.",
        )


def _answers(home: Path, role: str, release: str) -> None:
    done = subprocess.run(
        [home / "bin" / COMMANDS[role], "--version"], capture_output=True, text=True, check=False
    )
    if done.returncode or release not in done.stdout:
        raise Refused(
            f"What was installed does not start: {(done.stderr or done.stdout)[-500:].strip()}",
            "The release before is still in place. Send this line to whoever made the bundle.",
        )


def _python(home: Path) -> Path:
    return home / "bin" / "python"


def _current(target: Path) -> "Path | None":
    link = target / "bin"
    return (target / os.readlink(link)).parent if link.is_symlink() else None


def _switch(target: Path, home: Path) -> None:
    new = target / ".bin.new"
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(home / "bin", target))
    os.replace(new, target / "bin")


if __name__ == "__main__":
    sys.exit(main())
