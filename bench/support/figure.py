"""One figure of a benchmark: a JSON line on standard output, and whether it holds its bar."""

from __future__ import annotations

import json
import os


def figure(
    name: str, value: float, unit: str, bar: float, *, least: bool = False, **more: float | str
) -> bool:
    """Prints {"figure", "value", "unit", "bar", "holds", ...}; whether it holds.

    The bar is the most that `value` may be, or with `least` the least.
    """
    holds = value >= bar if least else value <= bar
    line = {"figure": name, "value": round(value, 4), "unit": unit, "bar": bar, "holds": holds}
    print(json.dumps(line | more), flush=True)
    return holds


def load() -> float:
    """This machine's load average over a minute: what else was running."""
    return round(os.getloadavg()[0], 1)
