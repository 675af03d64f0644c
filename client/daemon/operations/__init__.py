"""What the operator of a site does to keep it running: backup and restore."""
