"""A permit's signature is of one study and of a person whom the permit names."""

from __future__ import annotations

import pytest

from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.permit import Permit, check_signature, sign
from protocol.study.study import Study
from tests.protocol.study_document import document

ADA = Identity.generate()
PERMIT = {
    "identifier": "DAR-2026-0417",
    "legal_basis": "Regulation (EU) 2025/327, article 68",
    "persons": ["Ada Byron", "Max Huber"],
    "expires": "2027-03-31",
    "person": "Ada Byron",
    "public_key": ADA.public_key.hex(),
}


def signed(by: Identity = ADA, **changes: str) -> Study:
    unsigned = Study.parse(canonical(document(permit=PERMIT | {"signature": ""}, **changes)))
    assert unsigned.permit is not None
    stated = PERMIT | {"signature": sign(unsigned.document, by)}
    return Study.parse(canonical(document(permit=stated, **changes)))


def check(study: Study) -> None:
    assert study.permit is not None
    check_signature(study.document, study.permit)


def test_the_signature_is_of_the_whole_study() -> None:
    good = signed()
    check(good)
    assert good.permit is not None
    for other in (
        good.model_copy(update={"title": "Another"}),
        good.model_copy(
            update={"permit": good.permit.model_copy(update={"expires": "2030-01-01"})}
        ),
        good.model_copy(update={"permit": good.permit.model_copy(update={"signature": ""})}),
        signed(by=Identity.generate()),
    ):
        with pytest.raises(WardroundError, match="is not signed by Ada Byron") as caught:
            check(other)
        assert caught.value.code is Code.REFUSED_STUDY


def test_what_a_later_release_adds_is_signed_too() -> None:
    """The signature is of the bytes received, not of what this release reads in them."""
    plain = document(permit=PERMIT | {"signature": ""}) | {"annotations": {"ward": 3}}
    text = sign(canonical(plain), ADA)
    plain["permit"] |= {"signature": text}
    check(Study.parse(canonical(plain)))
    plain["annotations"]["ward"] = 4
    with pytest.raises(WardroundError, match="is not signed"):
        check(Study.parse(canonical(plain)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"person": "Eve"}, "none of the persons"),
        ({"expires": "2027-02-30"}, "expires is a day"),
        ({"persons": []}, "at least 1 item"),
        ({"identifier": "a\nb"}, "pattern"),
        ({"signature": "00"}, "pattern"),
    ],
)
def test_what_is_no_permit_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Permit.model_validate(PERMIT | changes)


def test_a_study_without_a_permit_is_written_as_before() -> None:
    assert b"permit" not in Study.parse(canonical(document())).document
