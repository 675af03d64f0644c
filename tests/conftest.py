"""Settings of every test: a slow or busy machine is no failure of a property."""

import signal

from hypothesis import settings

# A shell starts background jobs with SIGINT ignored, and processes of ours would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("wardround", deadline=None)
settings.load_profile("wardround")
