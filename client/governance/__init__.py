"""What the hospital decides and remembers: policy, approvals, ledger, audit log."""
