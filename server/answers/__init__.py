"""What queries and analyses came to, as JSON, CSV, metrics, Markdown and pages."""
