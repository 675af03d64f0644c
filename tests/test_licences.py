"""Terms of every package that is installed: permissive, or named in NOTICE."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_PERMISSIVE = re.compile(
    r"(MIT|MIT-0|MIT-CMU|0BSD|\d-Clause BSD|BSD|BSD-\d-Clause|Apache|Apache-2\.0|Apache 2\.0"
    r"|BSL-1\.0|Apache Software|ISC|PSF-2\.0|Python Software Foundation|Zlib|CC0-1\.0|Public Domain"
    r"|Apache-2\.0 WITH LLVM-exception)( License)?( \(ISCL\))?"
)


def pinned() -> list[str]:
    return re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def _field(found: metadata.PackageMetadata, name: str) -> str:
    """What a package states once; "" where it does not."""
    return "".join(found.get_all(name, [])[:1])


def terms(name: str) -> list[str]:
    """The licences that a package's metadata names; all must be fit, but for a choice by OR."""
    found = metadata.metadata(name)
    if stated := _field(found, "License-Expression"):
        return re.split(r" AND | OR ", str(stated))
    classified = [
        line.rpartition(" :: ")[2]
        for line in found.get_all("Classifier", [])
        if line.startswith("License ::") and not line.endswith("approved")
    ]
    return classified or str(_field(found, "License") or "").strip().splitlines()[:1]


def permissive(stated: list[str]) -> bool:
    return bool(stated) and all(_PERMISSIVE.fullmatch(one) for one in stated)


def test_every_package_is_permissive_or_named_in_the_notice() -> None:
    notice, unnamed = (ROOT / "NOTICE").read_text(), []
    for name in pinned():
        try:
            stated = terms(name)
        except metadata.PackageNotFoundError:  # of another platform
            continue
        if not permissive(stated) and not re.search(rf"(?<![\w-]){name}(?![\w-])", notice):
            unnamed.append((name, stated))
    assert unnamed == []


@pytest.mark.parametrize(
    ("stated", "fit"),
    [
        (["MIT"], True),
        (["Apache-2.0 WITH LLVM-exception", "BSD-3-Clause"], True),
        (["MIT", "GPL-3.0-only"], False),
        (["LicenseRef-NVIDIA-Proprietary"], False),
        (["Mozilla Public License 2.0 (MPL 2.0)"], False),
        ([], False),
    ],
)
def test_what_counts_as_permissive(stated: list[str], fit: bool) -> None:
    assert permissive(stated) is fit


def test_every_pin_has_hashes() -> None:
    """pip would ask for them too; this says so without an installation."""
    pins = re.split(r"^(?=[\w.-]+==)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert len(pins) > 200
    for pin in pins[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", pin, re.MULTILINE), pin.splitlines()[0]
