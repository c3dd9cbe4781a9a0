"""The compiled engine: time loops, matrix products, vector mathematics, and the compile options they share."""
