"""A report counts for the study and the code that it is of, and where no attack broke the claim."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.errors import Code, WardroundError
from protocol.models.audit_evidence import AuditEvidence
from protocol.release import RELEASE
from tests.protocol.models.audits import report
from tests.server.outcomes import study

OF = study()


def objection(**changed: Any) -> str:
    return AuditEvidence.parse(report(OF, **changed)).objection(OF, RELEASE)


def with_findings(**changed: Any) -> list[dict[str, Any]]:
    return [one | changed for one in json.loads(report(OF))["findings"]]


def test_a_report_of_this_study_by_this_code_counts() -> None:
    assert objection() == ""
    assert "3 attacks" in AuditEvidence.parse(report(OF)).in_words


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"study": "0" * 64}, "of another study"),
        ({"source": "0" * 64}, "other code was audited"),
        ({"release": "0.0.1"}, "other code was audited"),
        ({"findings": []}, "not audited: many runs of evaluation, many runs of training"),
        ({"findings": with_findings()[1:]}, "not audited: many runs of training"),
        ({"findings": with_findings(runs=100)}, "too few runs"),
        ({"bound": 2.001}, "the claim is broken: epsilon of training is at least 2"),
        ({"bound": "inf"}, "the claim is broken"),
    ],
)
def test_any_other_says_why_it_does_not(changed: dict[str, Any], says: str) -> None:
    """A broken claim too where the report itself calls it held."""
    assert says in objection(**changed)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", report(OF, extra=1), report(OF, epsilon="much"), report(OF)[:-20]],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(WardroundError) as raised:
        AuditEvidence.parse(text)
    assert raised.value.code is Code.MESSAGE
