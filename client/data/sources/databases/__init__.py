"""Databases of a site, attached read-only."""
