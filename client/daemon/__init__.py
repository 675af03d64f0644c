"""The warm process at a hospital: answers messages, reports its state."""
