"""The global model: server optimisers, early stopping, robust rules, checkpoints."""
