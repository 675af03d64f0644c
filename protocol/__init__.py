"""What both sides of a federation must agree on, and the ground under every room: errors, and files
that are written whole. Knows no network and no MLflow."""
