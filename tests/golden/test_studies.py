"""Studies that older releases wrote are read as they were written, under the same identity."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from tests.golden.opened import HERE, code_of, everywhere

GOOD = [found for found in everywhere("studies/*.json")
        if "_bad_" not in found[1]]  # fmt: skip
BAD = everywhere("studies/*_bad_*.json")


def holds(read: Any, written: Any) -> bool:
    """Whether all that was written is in what was read, value for value; a release may add keys."""
    if isinstance(written, dict):
        return isinstance(read, dict) and all(
            key in read and holds(read[key], value) for key, value in written.items()
        )
    if isinstance(written, list):
        return (
            isinstance(read, list) and len(read) == len(written) and all(map(holds, read, written))
        )
    return type(read) is type(written) and bool(read == written)


def digests(release: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((HERE / release / "digests.json").read_text())
    return found


@pytest.mark.parametrize(("release", "name"), GOOD)
def test_a_study_has_the_identity_and_the_values_that_it_had(release: str, name: str) -> None:
    document = (HERE / release / name).read_bytes()
    study = Study.parse(document)
    assert study.digest == digests(release)[Path(name).stem] == hashlib.sha256(document).hexdigest()
    assert study.document == document, "what is sent on is what was written"
    assert holds(study.model_dump(mode="json"), json.loads(document))


def test_every_study_of_the_list_is_here() -> None:
    for release in {release for release, _ in GOOD}:
        assert {Path(name).stem for of, name in GOOD if of == release} == set(digests(release))


@pytest.mark.parametrize(("release", "name"), BAD)
def test_a_document_with_one_thing_wrong_is_refused(release: str, name: str) -> None:
    with pytest.raises(WardroundError) as refused:
        Study.parse((HERE / release / name).read_bytes())
    assert refused.value.code is code_of(name, Code.REFUSED_STUDY)
