"""Where a study runs: in process, on Ray, or on a deployment."""
