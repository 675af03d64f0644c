"""A permit is the one that the hospital has on paper: checked at every Ready, before any debit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.config.known_permits import KnownPermit
from client.config.policy import Policy
from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.permit import sign
from protocol.study.study import Study
from tests.client.hospital import Hospital, policy, study

ADA, EVE = Identity.generate(), Identity.generate()
PERMIT = {
    "identifier": "DAR-2026-0417",
    "legal_basis": "Regulation (EU) 2025/327, article 68",
    "persons": ["Ada Byron", "Max Huber"],
    "expires": "2026-03-31",
    "person": "Ada Byron",
    "public_key": ADA.public_key.hex(),
}
KNOWN = {
    "identifier": "DAR-2026-0417",
    "expires": "2026-03-31",
    "persons": {"Ada Byron": ADA.public_key.hex()},
}


def signed(by: Identity = ADA, **changes: Any) -> Study:
    """changes: of the permit."""
    stated = PERMIT | {"signature": ""} | changes
    document = study(permit=stated).model_dump(mode="json")
    stated = stated | {"signature": sign(canonical(document), by)}
    return Study.parse(canonical(document | {"permit": stated}))


def demanding(**changes: Any) -> Policy:
    return policy(permit_required=True, permits=[KNOWN | changes])


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    found = Hospital.found(tmp_path / "state", demanding())
    yield found
    found.state.close()


def refused(hospital: Hospital, wanted: Study, says: str) -> None:
    assert hospital.approvals.propose(wanted) == ("refused", Code.REFUSED_POLICY)
    (listed,) = [one for one in hospital.approvals.studies() if one.digest == wanted.digest]
    assert says in listed.reason
    assert hospital.approvals.weigh(wanted).rules == ("permits",)
    with pytest.raises(WardroundError, match=r"policy\.permits"):
        hospital.approvals.approve(wanted)


def test_a_study_under_a_permit_that_the_hospital_has_goes_its_way(hospital: Hospital) -> None:
    wanted = hospital.accept(signed())
    hospital.debit(wanted, 1, 1)
    with hospital.state.reading() as db:
        rows = db.execute("SELECT fields FROM audit WHERE event = 'study_accepted'").fetchall()
    entry = json.loads(rows[0][0])
    assert (entry["permit"], entry["person"]) == ("DAR-2026-0417", "Ada Byron")


def test_without_one_a_study_is_refused_with_the_reason(hospital: Hospital) -> None:
    refused(hospital, study(), "asks for a permit, and the study states none")
    refused(hospital, signed(identifier="DAR-1"), "has no permit DAR-1")
    stolen = signed(by=EVE, public_key=EVE.public_key.hex())
    refused(hospital, stolen, "does not name Ada Byron with this key")
    other = signed(person="Max Huber")
    refused(hospital, other, "does not name Max Huber with this key")
    refused(hospital, signed(by=EVE), "refuses a signature")
    refused(hospital, signed(expires="2026-03-01"), "has expired")


def test_a_permit_that_ends_ends_the_study_before_any_privacy_is_spent(hospital: Hospital) -> None:
    wanted = hospital.accept(signed())
    hospital.debit(wanted, 1, 1)
    hospital.clock.now = datetime(2026, 3, 31, 23, 0, tzinfo=UTC)
    hospital.debit(wanted, 2, 2)
    hospital.clock.now = datetime(2026, 4, 1, 0, 0, tzinfo=UTC)
    with pytest.raises(WardroundError, match="has expired") as caught:
        hospital.debit(wanted, 3, 3)
    assert (caught.value.code, caught.value.rule) == (Code.REFUSED_POLICY, "permits")
    assert hospital.ledger.last_attempt(wanted.digest) == 2


def test_a_permit_taken_out_of_site_yaml_stops_an_open_study(hospital: Hospital) -> None:
    wanted = hospital.accept(signed())
    other = KNOWN | {"identifier": "another"}
    again = hospital.again(policy(permit_required=True, permits=[other]))
    with pytest.raises(WardroundError) as caught:
        again.debit(wanted, 1, 1)
    assert caught.value.code is Code.REFUSED_POLICY
    assert again.ledger.last_attempt(wanted.digest) == 0


def test_a_permit_is_for_its_tasks() -> None:
    demanding(tasks=["breast_cancer"]).check_permit(signed(), "2026-03-02")
    with pytest.raises(WardroundError, match="not for the task breast_cancer"):
        demanding(tasks=["chest_xray"]).check_permit(signed(), "2026-03-02")


def test_a_hospital_that_demands_none_holds_a_study_to_what_it_has_entered() -> None:
    policy().check_permit(study(), "2026-03-02")
    policy().check_permit(signed(by=EVE), "2026-03-02")
    with pytest.raises(WardroundError, match="refuses a signature"):
        policy(permits=[KNOWN]).check_permit(signed(by=EVE), "2026-03-02")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"permit_required": True}, "a permit is required, and none is entered"),
        ({"permits": [KNOWN, KNOWN]}, "has an identifier twice"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        policy(**rules)


@pytest.mark.parametrize("expires", ["31.3.2026", "2026-3-31", "20260331", ""])
def test_an_entry_has_a_day(expires: str) -> None:
    with pytest.raises(ValueError, match="expires is no day"):
        KnownPermit.model_validate(KNOWN | {"expires": expires})
