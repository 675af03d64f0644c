"""An address reads as it is written, with IPv6 in brackets, and nothing else passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from protocol.address import Address, ListenAddress, RemoteAddress


@given(
    st.from_regex(r"[A-Za-z0-9.-]{1,40}", fullmatch=True) | st.ip_addresses().map(str),
    st.integers(0, 65535),
)
def test_an_address_reads_as_it_is_written(host: str, port: int) -> None:
    assert Address.parse(str(Address(host, port))) == (host, port)


def test_how_it_is_written() -> None:
    assert str(Address("coordinator.example.org", 9092)) == "coordinator.example.org:9092"
    assert f"{Address('::1', 0)}" == "[::1]:0"
    assert Address.parse("[fe80::1]:11112") == ("fe80::1", 11112)


@pytest.mark.parametrize(
    "text",
    [
        "org",
        "org:",
        ":9092",
        "org:99999",
        "org:-1",
        "org:9o92",
        "::1:9092",
        "[::1:9092",
        "a b:1",
        "org:9092/",
        "http://org:9092",
        "org:9092\n",
        "org:\u0661",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not host:port"):
        Address.parse(text)


def test_port_0_is_for_whoever_listens() -> None:
    assert TypeAdapter(ListenAddress).validate_python("0.0.0.0:0") == "0.0.0.0:0"
    assert TypeAdapter(RemoteAddress).validate_python("org:1") == "org:1"
    with pytest.raises(ValidationError, match="not host:port"):
        TypeAdapter(RemoteAddress).validate_python("org:0")
