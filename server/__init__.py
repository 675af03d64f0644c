"""The coordinator: SuperLink, round loop, server optimisers, tracking. Sees sums only."""
