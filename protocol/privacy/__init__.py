"""Differential privacy: events, their accounting, and the noise that is drawn."""
