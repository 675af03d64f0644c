"""The site's connection to the coordinator: Flower's Fleet API over TLS."""
