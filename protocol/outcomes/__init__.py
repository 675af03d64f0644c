"""What a task can predict of a patient, one module a kind: see `protocol.outcomes.kinds`."""
