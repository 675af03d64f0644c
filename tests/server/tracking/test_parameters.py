"""A configuration becomes parameters that MLflow takes, and shows no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.tracking.parameters import (
    KEY_LIMIT,
    VALUE_LIMIT,
    flatten,
    redacted,
    without_credentials,
)

KEYS = st.text(min_size=1, max_size=300)
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=7000) | st.lists(st.text())
CONFIGURATIONS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    KEYS, st.recursive(VALUES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
)


@given(CONFIGURATIONS)
def test_whatever_is_configured_keeps_to_the_limits(configuration: dict[str, Any]) -> None:
    for key, value in flatten(configuration).items():
        assert len(key) <= KEY_LIMIT
        assert len(value) <= VALUE_LIMIT
        assert not set(key) & set("+@#%=,\"'()[]{}\n")


def test_keys_are_dotted_and_values_plain() -> None:
    nested = {"privacy": {"mode": "local", "epsilon": 1.0}, "masked": True, "none": None, "l": [1]}
    assert flatten(nested) == {
        "privacy.mode": "local",
        "privacy.epsilon": "1.0",
        "masked": "true",
        "none": "null",
        "l": "[1]",
    }


@pytest.mark.parametrize("key", ["password", "api_key", "mlflow_token", "SECRET", "db-password"])
def test_no_secret_is_kept_however_deep(key: str) -> None:
    nested = {
        "a": [{"b": {key: "hunter2", "uri": "https://me:hunter2@host:5000/x"}}],
        key: "hunter2",
    }
    assert "hunter2" not in json.dumps(redacted(nested))
    assert redacted(nested)["a"][0]["b"]["uri"] == "https://host:5000/x"


def test_an_address_loses_user_and_password_only() -> None:
    assert without_credentials("https://a:b@h:1/p?q=1") == "https://h:1/p?q=1"
    assert without_credentials("http://h:1") == "http://h:1"
