"""Settings of every test: a slow or busy machine is no failure of a property."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fast_suite import is_fast

# A shell starts background jobs with SIGINT ignored, and processes of ours would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("wardround", deadline=None)
settings.load_profile("wardround")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only what starts nothing: fast_suite.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """None lets others decide."""
    left_out = config.getoption("--fast") and collection_path.name.startswith("test_")
    return True if left_out and not is_fast(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


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
