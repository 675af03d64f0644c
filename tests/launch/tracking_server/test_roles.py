"""What each person may ask of a federation's MLflow, by method and path alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.tracking_server.people import Part
from launch.tracking_server.roles import may

PARTS: tuple[Part, ...] = ("coordinator", "data_scientist", "reviewer")
NOBODYS = [
    ("POST", "/api/2.0/mlflow/users/create"),
    ("PATCH", "/api/2.0/mlflow/users/update-admin"),
    ("POST", "/api/3.0/mlflow/roles/create"),
    ("POST", "/api/2.0/mlflow/webhooks"),
    ("POST", "/gateway/x/mlflow/invocations"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("POST", "/ajax-api/3.0/jobs"),
    ("POST", "/v1/traces"),
    ("POST", "/signup"),
    ("OPTIONS", "/api/2.0/mlflow/runs/create"),
    ("CONNECT", "/"),
    ("POST", "//api/2.0/mlflow/runs/create"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/../../mlflow.db"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/.."),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/"),
]
WRITERS = [
    ("POST", "/api/2.0/mlflow/experiments/create"),
    ("POST", "/api/2.0/mlflow/runs/log-batch"),
    ("POST", "/ajax-api/2.0/mlflow/runs/set-tag"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/card.md"),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/1/abc"),
    ("POST", "/api/2.0/mlflow/registered-models/create"),
    ("POST", "/api/2.0/mlflow/model-versions/create"),
    ("DELETE", "/api/2.0/mlflow/model-versions/delete"),
    ("POST", "/api/2.0/mlflow/model-versions/set-tag"),
]
EVERYBODYS = [
    ("GET", "/"),
    ("GET", "/static-files/index.html"),
    ("POST", "/ajax-api/2.0/mlflow/runs/search"),
    ("POST", "/ajax-api/2.0/mlflow/logged-models/search"),
    ("POST", "/graphql"),
    ("POST", "/api/2.0/mlflow/registered-models/alias"),
    ("DELETE", "/api/2.0/mlflow/registered-models/alias"),
]


@pytest.mark.parametrize(("method", "path"), NOBODYS)
def test_what_nobody_may(method: str, path: str) -> None:
    assert not any(may(part, method, path) for part in PARTS)


@pytest.mark.parametrize(("method", "path"), WRITERS)
def test_what_a_reviewer_may_not(method: str, path: str) -> None:
    assert [may(part, method, path) for part in PARTS] == [True, True, False]


@pytest.mark.parametrize(("method", "path"), EVERYBODYS)
def test_what_everybody_may(method: str, path: str) -> None:
    assert all(may(part, method, path) for part in PARTS)


@given(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), st.text(max_size=40))
def test_an_unknown_way_in_changes_nothing(method: str, path: str) -> None:
    assert not may("reviewer", method, f"/{path}")
