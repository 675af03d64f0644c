"""Requests for an association are read as the standard has it; a proper one stays as it is."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from client.data.dicom.receive.association_request import as_understood
from tests.client.data.dicom.receive.association_requests import context, item, request

USER = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3")


def test_a_proper_request_stays_as_it_is() -> None:
    asked = request(context(1), context(3, b"1.2.3", b"1.2", b"1.3"))
    assert as_understood(asked) == asked


def test_what_is_not_known_is_passed_over() -> None:
    odd = request(context(1), item(0x77, b"x"), user=USER + item(0x90, b"") + item(0x55, b"V" * 17))
    assert as_understood(odd) == request(context(1), user=USER + item(0x55, b"V" * 16))


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_whatever_comes_is_read_or_refused(pdu: bytes, tail: bytes) -> None:
    with suppress(ValueError):
        assert as_understood(pdu) == pdu or pdu[:1] == b"\1"
    with suppress(ValueError):
        once = as_understood(request(tail))
        assert as_understood(once) == once
        assert len(once) == 6 + int.from_bytes(once[2:6], "big")
