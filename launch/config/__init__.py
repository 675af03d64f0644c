"""The configuration of a study: Hydra groups, keys, contradictions."""
