"""site.yaml: what a hospital sets, checked."""
