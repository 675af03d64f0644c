"""How much an audit does unless told otherwise."""

from __future__ import annotations

RUNS, CANARIES = 4000, 900
"""Releases of each data set, and canaries in one run."""
