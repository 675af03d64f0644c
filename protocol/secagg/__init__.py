"""Secure aggregation: masks that cancel in the sum, and only there."""
