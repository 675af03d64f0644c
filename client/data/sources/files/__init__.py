"""Files of a site -> tables that DuckDB reads in place."""
