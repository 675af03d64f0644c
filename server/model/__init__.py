"""The global model: server optimisers, schedules, early stopping, robust rules, checkpoints."""
