"""The hospital: daemon, policy, ledger, audit log, local training. Decides alone."""
