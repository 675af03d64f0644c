"""A released model outside MLflow: the record that is signed, and the file that carries it."""
