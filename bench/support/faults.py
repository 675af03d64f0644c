"""Faults of a federation on one machine. Each ends by itself, as its cause would at a hospital.

killed        kill -9 of a process, which is started again at once, as its unit does
frozen        SIGSTOP, for some seconds
cut, slow     a site's connections break; or carry 20 kB/s for some seconds
clock         a process's clock jumps by minutes or by a day, forth or back, and is set right
              (needs libfaketime, of Debian's package faketime)
full          a process can write no file beyond its first 64 bytes (RLIMIT_FSIZE)
read-only     nothing below a process's folder of state can be made or changed any more
no MLflow     its server is killed, and started some seconds later
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from client.enrolment import new_site
from launch.demo.mlflow_server import MlflowServer
from protocol.address import Address
from support.deployment import COORDINATOR, Deployment
from tests.cases.federation.slow_line import SlowLine

LONGEST = 8.0
"""Seconds of one fault."""
_FAST, _SLOW = 1e9, 20_000.0
"""Bytes a second."""
_BEHIND, _AHEAD = (-86400, -600, -90), (90, 600, 86400)
"""Seconds by which a clock is wrong."""
_FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
_SHIM = "import select, time; time.sleep = lambda seconds: select.select([], [], [], seconds)"
"""Python's own way to sleep fails where libfaketime 0.9.10 leaves the monotonic clock alone. With
its fix of waits by that clock, each wait for the interpreter's lock ends at once and spins; without
its cache, each look at the clock reads a file."""
_FULL = 64


class FaultyDeployment(Deployment):
    """A deployment whose sites reach the coordinator over lines, whose clocks can be set, and which
    the permissions of files hold for, also where root runs it."""

    def __enter__(self) -> Self:
        super().__enter__()
        with self._stack:
            self.lines = {site: self._line(site) for site in self.sites}
            self._stack = self._stack.pop_all()
        return self

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(name for name in self._processes if name != COORDINATOR)

    def state(self, name: str) -> Path:
        return self.folder / name / "state"

    def through(self, name: str) -> tuple[str, ...]:
        return () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override")

    def environment(self, name: str) -> Mapping[str, str]:
        if _FAKETIME is None:
            return {}
        self.set_clock(name, 0)
        (shim := self.folder / "clocks").mkdir(exist_ok=True)
        (shim / "sitecustomize.py").write_text(_SHIM)
        return {
            "LD_PRELOAD": str(_FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock(name)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "PYTHONPATH": str(shim),
        }

    def set_clock(self, name: str, offset: int) -> None:
        """Seconds by which the clock of a process is ahead of the machine's, from about a second
        later on."""
        new = self._clock(name).with_suffix(".new")
        new.write_text(f"{offset:+d}")
        new.rename(self._clock(name))

    def _clock(self, name: str) -> Path:
        return self.folder / f"{name}.clock"

    def _line(self, site: str) -> SlowLine:
        """Between a site and the coordinator; the site is started again on it."""
        self.stop(site)
        port = Address.parse(self.coordinator.listen).port
        line = self._stack.enter_context(SlowLine(port, _FAST))
        rules = self.folder / site / new_site.SITE_YAML
        rules.write_text(rules.read_text().replace(f":{port}", f":{line.port}"))
        self.start(site)
        return line


class Faults:
    """Faults one after another for some seconds, in a thread, inside `with`. Each kind comes before
    any comes again."""

    def __init__(
        self, deployment: FaultyDeployment, mlflow: MlflowServer, seed: int, seconds: float
    ) -> None:
        self._deployment, self._mlflow = deployment, mlflow
        self._until = time.monotonic() + seconds
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self.made: Counter[str] = Counter()
        self.broken: list[str] = []
        """What a fault could not be made or mended for."""
        self.kinds: dict[str, Callable[[str], None]] = {
            "killed": self._killed, "frozen": self._frozen, "cut": self._cut, "slow": self._slow,
            "full": self._full, "read-only": self._read_only, "no MLflow": self._no_mlflow,
        }  # fmt: skip
        if _FAKETIME is not None:
            self.kinds["clock"] = self._clock
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Returns once the last fault is mended."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        for kind in self._order():
            if self._ending.wait(self._random.uniform(1, 8)) or time.monotonic() > self._until:
                return
            victim = self._random.choice((*self._deployment.sites, COORDINATOR, COORDINATOR))
            self.made[kind] += 1
            print(f"\n{kind} {victim}", file=sys.stderr)
            try:
                self.kinds[kind](victim)
            except ProcessLookupError:
                self.broken.append(f"{victim} had ended by itself")
                self._deployment.start(victim)

    def _order(self) -> Iterator[str]:
        while True:
            yield from self._random.sample(sorted(self.kinds), len(self.kinds))

    def _wait(self) -> None:
        self._ending.wait(self._random.uniform(1, LONGEST))

    def _killed(self, victim: str) -> None:
        os.kill(self._deployment.program(victim), signal.SIGKILL)
        self._deployment.stop(victim)
        self._deployment.start(victim)

    def _frozen(self, victim: str) -> None:
        process = self._deployment.program(victim)
        os.kill(process, signal.SIGSTOP)
        self._wait()
        os.kill(process, signal.SIGCONT)

    def _lines(self, victim: str) -> list[SlowLine]:
        lines = self._deployment.lines
        return [lines[victim]] if victim in lines else [*lines.values()]

    def _cut(self, victim: str) -> None:
        for line in self._lines(victim):
            line.cut()

    def _slow(self, victim: str) -> None:
        for line in self._lines(victim):
            line.rate = _SLOW
        self._wait()
        for line in self._lines(victim):
            line.rate = _FAST

    def _clock(self, victim: str) -> None:
        self._deployment.set_clock(victim, self._random.choice((*_BEHIND, *_AHEAD)))
        self._wait()
        self._deployment.set_clock(victim, 0)

    def _full(self, victim: str) -> None:
        process = self._deployment.program(victim)
        _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (_FULL, hard))
        self._wait()
        resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))

    def _read_only(self, victim: str) -> None:
        with read_only(self._deployment.state(victim)):
            self._wait()

    def _no_mlflow(self, _: str) -> None:
        self._mlflow.stop()
        self._wait()
        self._mlflow.start()
        self._mlflow.wait()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """As its permissions have it, which hold for processes without CAP_DAC_OVERRIDE."""
    found = [folder, *folder.rglob("*")]
    with ExitStack() as stack:
        for path in found:
            with suppress(FileNotFoundError):
                mode = path.stat().st_mode
                path.chmod(mode & ~0o222)
                stack.callback(_give_back, path, mode)
        yield


def _give_back(path: Path, mode: int) -> None:
    with suppress(FileNotFoundError):
        path.chmod(mode)
