"""The round loop: proposal, participants, attempts."""
