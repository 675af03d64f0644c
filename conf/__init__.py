"""Hydra groups, installed with the program."""
