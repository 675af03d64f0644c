"""How much an audit does unless told otherwise; an approval takes no less as evidence."""

from __future__ import annotations

RUNS, CANARIES = 4000, 900
"""Releases of each of two neighbouring data sets, and canaries in one run."""
