"""How `wardround` and `wardround-site` speak to whoever types: one style of options and errors.

It lies in `protocol` because that is the lowest room which both sides may import, beside the
catalogue of errors that it prints. Nothing else of `protocol` imports it.
"""
