"""Tasks that show a kind of outcome on public or generated data; installed as any other."""
