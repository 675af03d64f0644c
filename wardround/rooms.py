"""The rooms are top-level packages: a file of the same name in a user's folder would hide one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

ROOMS = ("protocol", "tasks", "client", "server", "launch", "conf")


def require_own_rooms() -> None:
    """Raises ImportError, naming the file in the way, where a room would be imported from
    somewhere else than beside this package."""
    home = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        place = _place(room)
        if place is not None and place != home / room:
            raise ImportError(
                f"{place} hides wardround's own package `{room}`: Python looks there first. "
                "Rename it, or work in another folder (and see PYTHONPATH)."
            )


def _place(room: str) -> Path | None:
    """The folder of a package, or the file of a module, that `import room` would take."""
    spec = find_spec(room)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
