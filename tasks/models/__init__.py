"""Networks, features and starting weights that tasks are made of."""
