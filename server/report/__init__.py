"""What people read about a study: model card, figures, answers of a query."""
