"""What a study will take, before anything runs: bytes, seconds, epsilon."""
