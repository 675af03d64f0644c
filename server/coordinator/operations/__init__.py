"""What the operator of a coordinator does to keep it running: backup, restore, history, prune."""
