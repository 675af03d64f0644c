"""What MLflow gets: aggregates only, queued while the server is away."""
