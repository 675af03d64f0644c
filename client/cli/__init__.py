"""The command `wardround-site`."""
