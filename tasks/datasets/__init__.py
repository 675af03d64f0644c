"""Public data sets, fetched with a checksum or generated."""
