"""The coordinator's network side: Flower's SuperLink with TLS, node authentication and limits."""
