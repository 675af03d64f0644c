"""A program scores as the bundle does, to the last bit, and holds nothing that could be run."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from launch.review.program_file import SUFFIX, require_program_of, write_program
from protocol.errors import Code, WardroundError
from server import released_model
from server.released_program import pickled, program_of
from tasks import registry
from tests.protocol.models.bundles import bundle

TASKS = (
    "breast_cancer",
    "digits",
    "findings",
    "icu_timeseries",
    "length_of_stay",
    "readmission_levels",
    "trial_survival",
)
"""One of each kind of outcome, with rows, pictures and series."""


@pytest.mark.parametrize("name", TASKS)
def test_a_program_scores_as_the_bundle_to_the_last_bit(name: str, tmp_path: Path) -> None:
    task = registry.load(name)
    of = bundle(task)
    released_model.write(tmp_path / "data", of.study, of.weights)
    model = released_model.load(tmp_path / "data")
    frame = released_model.example(task.schema)
    data = program_of(of)
    assert pickled(data) == ""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert not any(archive.read(name)[:1] == b"\x80" for name in archive.namelist())
        assert str(Path(__file__).parents[2]).encode() not in b"".join(
            archive.read(name) for name in archive.namelist()
        ), "it names a folder of this machine"
    program = torch.export.load(io.BytesIO(data)).module()
    records = torch.from_numpy(model.features(frame))
    with torch.inference_mode():
        found = [program(record[None].clone()).numpy() for record in records]
    expected = model.predict(frame).to_numpy()
    assert np.concatenate(found).reshape(expected.shape).astype(np.float64).tolist() == (
        expected.tolist()
    )


def test_a_program_is_verified_by_making_it_again(tmp_path: Path) -> None:
    of = bundle()
    file = tmp_path / "model.safetensors"
    written = write_program(of, file)
    assert written == tmp_path / f"model{SUFFIX}"
    require_program_of(of, written)
    other = replace(of, weights=of.weights + np.float32(0.5))
    with pytest.raises(WardroundError, match="not the program that this bundle comes to") as raised:
        require_program_of(other, written)
    assert raised.value.code is Code.WEIGHTS
    changed = bytearray(written.read_bytes())
    changed[len(changed) // 2] ^= 1
    written.write_bytes(changed)
    with pytest.raises(WardroundError, match="not the program"):
        require_program_of(of, written)
    with pytest.raises(WardroundError) as raised:
        write_program(of, file)
    assert raised.value.code is Code.USAGE


def test_example_inputs_that_torch_pickles_are_seen() -> None:
    """As torch.export.save writes a program by itself."""
    program = torch.export.export(torch.nn.Linear(2, 1), (torch.zeros(1, 2),))
    file = io.BytesIO()
    torch.export.save(program, file)
    assert pickled(file.getvalue()) == "data/sample_inputs/model.pt"


def test_weights_that_are_pickled_are_seen() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "archive/data/weights/model_weights_config.json",
            '{"config": {"w": {"path_name": "weight_0", "use_pickle": true}}}',
        )
    assert pickled(file.getvalue()) == "data/weights/model_weights_config.json"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data/constants/custom_obj_0", b"\x80\x02.")
    assert pickled(file.getvalue()) == "data/constants/custom_obj_0"
