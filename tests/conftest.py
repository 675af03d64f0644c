"""Settings of every test: a slow or busy machine is no failure of a property."""

from hypothesis import settings

settings.register_profile("wardround", deadline=None)
settings.load_profile("wardround")
