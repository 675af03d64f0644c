"""Who may take part: sites, data scientists, certificates."""
