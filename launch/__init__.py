"""What data scientists start: studies, queries, sweeps, the demo. Uses both client and server."""
