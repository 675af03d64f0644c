"""The commands of whoever runs a coordinator."""
