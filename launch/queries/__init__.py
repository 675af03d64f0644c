"""Queries: from a question to its answers."""
