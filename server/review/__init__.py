"""Reviewers' decisions about registered models, and what MLflow shows of them."""
