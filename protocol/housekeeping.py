"""Work that a service can do without. Where it fails, the service goes on and says so, once.

    housekeeping = Housekeeping(lambda task, why: log(task, why or "works again"))
    with housekeeping.task("status"):
        write_status()

Every write outside the ledger and outside a study's own folder passes here: a full disk, a
read-only or broken one, and a process out of file handles, threads or memory end none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Housekeeping:
    """The tasks of one service, and which of them fail now. May be used from any thread."""

    def __init__(self, changed: Callable[[str, str], None] = lambda task, why: None) -> None:
        """changed: told a task's name and why it fails from now on, "" when it works again; it
        must not raise."""
        self._changed = changed
        self._failing: dict[str, str] = {}

    @property
    def failing(self) -> Mapping[str, str]:
        """Task -> why it failed the last time, of those that did."""
        return dict(self._failing)

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """The block may fail: what it raises is noted and goes no further."""
        why = ""
        try:
            yield
        except Exception as error:
            why = reason(error)
        if why != self._failing.get(name, ""):
            if why:
                self._failing[name] = why
            else:
                self._failing.pop(name, None)
            self._changed(name, why)


def reason(error: Exception) -> str:
    """Why something failed, in the system's words, without a path: "No space left on device"."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
