"""What a model learns from each kind of outcome, one module a kind: see `tasks.losses.usual`."""
