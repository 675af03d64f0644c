"""Published clinical scores: a baseline, or where training starts."""
