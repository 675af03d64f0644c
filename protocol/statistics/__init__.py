"""Statistics that clinical papers report, read off noised tables."""
