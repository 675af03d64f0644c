"""A site with a single patient, whom its split sets apart for evaluation: the study runs, or it is
refused in words that say what to do.

Kind of fault: what a library says about a field of a document reaches a user who never saw the
document.
"""

from __future__ import annotations

import pytest

from tests.cases.tasks.plugged import run
from tests.cases.tasks.wound_tasks import data

pytestmark = [pytest.mark.usefixtures("wounds"), pytest.mark.filterwarnings("ignore")]


def test_a_site_of_one_patient_is_told_what_to_do() -> None:
    tables = data()
    tables["south"] = {name: column[:1] for name, column in tables["south"].items()}
    ran = run("wound", "privacy=none", "rounds=20", tables=tables)
    assert "Input should be" not in ran.error, "pydantic's words"
    assert "traceback" not in ran.error, ran
