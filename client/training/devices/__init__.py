"""On what a site computes, how exactly, and what happens where its memory runs out."""
