"""Settings of every test: a slow or busy machine is no failure of a property."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A shell starts background jobs with SIGINT ignored, and processes of ours would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("wardround", deadline=None)
settings.load_profile("wardround")


@pytest.fixture(autouse=True, scope="module")
def mlflow_is_forgotten() -> Iterator[None]:
    """MLflow notes its server in the environment, for child processes; the next module's tests
    would track there, where no server is any longer."""
    before = {name: of for name, of in os.environ.items() if name.startswith("MLFLOW")}
    yield
    for name in [name for name in os.environ if name.startswith("MLFLOW")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def signals_are_let_through() -> Iterator[None]:
    """Code that holds signals and keeps them would make every later process deaf to them."""
    yield
    held = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    assert not held
