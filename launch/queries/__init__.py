"""A query from a question to its answer."""
