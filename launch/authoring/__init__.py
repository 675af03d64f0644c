"""For whoever writes a task: a package to begin with, and a dry run of what every study asks."""
