"""Every notebook runs from top to bottom, and is kept with its outputs, to be read as it is.

Where a notebook repeats a study many times for its statistics, the test does so a few times.
"""

import itertools
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FEWER = {
    "EPSILONS, REPEATS = (0.3, 1, 3, 10), 3": "EPSILONS, REPEATS = (1, 10), 2",
    'TRIALS, SITE = 20, "south"': 'TRIALS, SITE = 2, "south"',
}
"""What stands once among all notebooks: what a test runs in its place."""


def test_each_number_that_is_lowered_stands_in_a_notebook() -> None:
    text = "".join(cell.source for path in NOTEBOOKS for cell in nbformat.read(path, 4).cells)
    assert [text.count(number) for number in FEWER] == [1] * len(FEWER)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_keeps_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 2
    for cell, (many, few) in itertools.product(cells, FEWER.items()):
        cell.source = cell.source.replace(many, few)
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
