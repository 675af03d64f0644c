"""Local training: sampling, per-patient gradients, clipping, noise, algorithms."""
