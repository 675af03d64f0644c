"""The study: one immutable document, its parts, and the layout of the vector it asks for."""
