"""What is learned: cohort schema, model, loss, metrics. One file per task; knows no network."""
