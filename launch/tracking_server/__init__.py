"""A federation's MLflow: behind TLS, with a password and a role for every person."""
