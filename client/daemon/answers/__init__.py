"""Which answers a daemon makes at once, with what of the machine, and which of them it keeps."""
