"""Settings of every test: a slow or busy machine is no failure of a property."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
from hypothesis import settings

from tasks import registry
from tests.fast_suite import is_fast
from tests.scheduling import ByFolderOrFile, slowest_first
from tests.temporary_files import MEMORY, in_memory

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch; the suite has a worker a core

# Hundreds of processes start and import the same files, whatever is set here: let one compile them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts background jobs with SIGINT ignored, and processes of ours would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("wardround", deadline=None)
settings.load_profile("wardround")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only what starts nothing: fast_suite.py")


def pytest_configure(config: pytest.Config) -> None:
    if in_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
    if config.pluginmanager.has_plugin("xdist"):
        config.option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Twice as many as there are cores, where tests wait for processes: that leaves cores idle."""
    return (os.cpu_count() or 1) * (1 if config.getoption("--fast") else 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFolderOrFile | None:
    """None, too, leaves it to others."""
    return ByFolderOrFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """None lets others decide."""
    left_out = config.getoption("--fast") and collection_path.name.startswith("test_")
    return True if left_out and not is_fast(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
    if hasattr(config, "workerinput"):
        slowest_first(items)


@pytest.fixture(autouse=True, scope="module")
def mlflow_is_forgotten() -> Iterator[None]:
    """MLflow notes its server for itself and in the environment, for child processes; the next
    module's tests would track there, where no server is any longer."""
    before = {name: of for name, of in os.environ.items() if name.startswith("MLFLOW")}
    yield
    if (mlflow := sys.modules.get("mlflow")) is not None:
        mlflow.set_tracking_uri(None)  # comes before the environment's
    for name in [name for name in os.environ if name.startswith("MLFLOW")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="module")
def registered_tasks_are_forgotten() -> Iterator[None]:
    """What a module's tests register is no task of those that follow in the same process."""
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)


@pytest.fixture(scope="module")
def no_other_ray() -> Iterator[None]:
    """Until the module ends, no other test process has a Ray cluster: one takes ten seconds of the
    processor to start, and Ray gives up after thirty of the clock."""
    with (Path(gettempdir()) / f"wardround-tests-{os.getuid()}.ray").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def signals_are_let_through() -> Iterator[None]:
    """Code that holds signals and keeps them would make every later process deaf to them."""
    yield
    held = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    assert not held
