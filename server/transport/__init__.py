"""The SuperLink and what stands around it: TLS, node authentication, limits."""
