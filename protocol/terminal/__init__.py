"""The style of both command lines: options and errors. Here because both sides may import it."""
