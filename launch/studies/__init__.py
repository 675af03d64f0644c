"""A study from its configuration to its result: build, plan, run, resume, show."""
