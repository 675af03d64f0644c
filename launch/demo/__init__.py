"""`make demo`: a federation of four hospitals on this machine."""
