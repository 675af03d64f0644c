"""Reading YAML that people write: plain values of YAML 1.2, and errors with remedies."""
