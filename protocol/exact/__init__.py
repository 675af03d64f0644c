"""Exact analyses: what every site and the coordinator compute alike from the opened sums."""
