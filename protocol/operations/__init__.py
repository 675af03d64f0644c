"""What both sides need to be kept running: backup archives, health and metrics."""
