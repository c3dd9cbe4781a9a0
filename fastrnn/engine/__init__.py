"""The compiled engine: time loops, matrix products, vector mathematics, and their compile options."""
