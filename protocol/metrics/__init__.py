"""Pooled metrics and the answers of a query, computed from opened sums."""
