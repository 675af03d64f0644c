"""What both sides of a federation must agree on. Knows no network, no disk, no MLflow."""
