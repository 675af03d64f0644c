"""A released model as a `torch.export` program: a graph of torch's own operators with its weights,
which runs without wardround (https://docs.pytorch.org/docs/stable/export.html).

    input    (1, ...) float32: one record's features, as `ReleasedModel.features` makes them
    output   (1, K), the columns of the task's kind of outcome

`torch.export.load` unpickles what an archive holds of pickles. Ours holds none: weights are raw
numbers, the graph is JSON, and example inputs, which torch would pickle, are left out. Nothing here
loads a program. What a bundle that was verified comes to can be made again anywhere, to the same
bytes by the same release of torch, and that is how a program is verified.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from protocol.errors import Code, WardroundError
from protocol.models.bundle import Bundle
from server import released_model
from tasks.scoring import installed, with_weights

if TYPE_CHECKING:
    from tasks.base import Task

SUFFIX = ".pt2"
"""Of the file beside a bundle."""
_SAMPLE = "data/sample_inputs/"
_RAW = ("data/weights/weight_", "data/constants/tensor_")
_WORDS = (
    "archive_format",
    "archive_version",
    "byteorder",
    ".data/version",
    ".data/serialization_id",
)


class _Scores(nn.Module):
    """From features to what is predicted."""

    def __init__(self, task: Task, module: nn.Module) -> None:
        super().__init__()
        self._task, self.module = task, module

    def forward(self, features: Tensor) -> Tensor:
        return self._task.scores(self.module(features))


def program_of(bundle: Bundle) -> bytes:
    """The program of a bundle, as a .pt2 archive. Not while another thread of the process computes:
    torch traces by changing its modules.

    Raises WardroundError: CONFIGURATION for a model that torch cannot export (its steps depend on
    the record), and what `installed` and `with_weights` raise.
    """
    study = bundle.study
    task = installed(study.task.name, study.task.options, study.task.version, study.task.source)
    seed, noted = study.optimisation.seed, study.model.frozen
    model = with_weights(task, seed, bundle.weights_by_name, bundle.frozen, noted)
    record = released_model.features(task, released_model.example(task.schema))[:1]
    scores = _Scores(task, model.module).eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(scores, (torch.from_numpy(record).clone().float(),))
            for node in program.graph.nodes:  # it would name folders of this machine
                node.meta.pop("stack_trace", None)
            program.example_inputs = None
            file = io.BytesIO()
            torch.export.save(program, file)
    except Exception as error:  # torch's own, of many kinds
        raise WardroundError(
            Code.CONFIGURATION,
            f"torch cannot export the model of task {task.name} ({type(error).__name__}).",
            remedy="Use the bundle with wardround: `wardround-site predict`, or wardround.load.",
        ) from None
    data = file.getvalue()
    if strange := pickled(data):
        raise WardroundError(
            Code.CONFIGURATION,
            f"The exported model of task {task.name} would hold a pickle ({strange}).",
            remedy="Use the bundle with wardround: `wardround-site predict`, or wardround.load.",
        )
    return data


def pickled(data: bytes) -> str:
    """The first part of a .pt2 archive that is none of raw numbers, JSON and words, and so may be a
    pickle; "" where there is none. Reads names and JSON alone."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if name.endswith(".json"):
                if _says_pickle(json.loads(archive.read(entry))):
                    return name
            elif name.startswith(_SAMPLE):
                if entry.file_size:
                    return name
            elif name not in _WORDS and not name.startswith(_RAW):
                return name
    return ""


def _says_pickle(value: object) -> bool:
    """Whether a part of a JSON value has "use_pickle" set."""
    if isinstance(value, dict):
        return value.get("use_pickle") is True or any(map(_says_pickle, value.values()))
    return isinstance(value, list) and any(map(_says_pickle, value))
