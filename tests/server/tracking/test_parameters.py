"""A configuration shows no secret."""

from __future__ import annotations

import json

import pytest

from server.tracking.parameters import redacted, without_credentials


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
