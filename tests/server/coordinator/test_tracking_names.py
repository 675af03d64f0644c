"""Names for MLflow: what is refused here is what MLflow would refuse when the model is ready."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_experiment_name, _validate_model_name

from server.coordinator.tracking_names import unfit_names

ODD = ["a/b", "a:1", "", " ", "..", ".", "x ", "a\nb", "\x1b[31m", "\u202eevil", "n" * 201]


@pytest.mark.parametrize("name", ODD)
def test_a_model_name_that_mlflow_or_a_reader_cannot_take_is_refused(name: str) -> None:
    assert [text.split()[0] for text, _ in unfit_names("wardround", name)] == ["tracking.model"]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\u202eevil", "n" * 201])
def test_an_experiment_name_that_is_not_plain_is_refused(name: str) -> None:
    assert [text.split()[0] for text, _ in unfit_names(name, None)] == ["tracking.experiment"]


@pytest.mark.parametrize("name", ["sepsis", "Sepsis 2 (ä)", "a.b-c_d", "n" * 200])
def test_what_is_taken_here_is_taken_by_mlflow(name: str) -> None:
    assert not list(unfit_names(name, name))
    _validate_model_name(name)
    _validate_experiment_name(name)


def test_mlflow_refuses_names_that_are_paths() -> None:
    for name in ODD[:5]:
        with pytest.raises(MlflowException):
            _validate_model_name(name)
