"""The compiled engine: all that knows Numba.

`numba_private` holds what no public name of Numba offers, `runtime` compiles, links, caches and hands work to threads,
`kernels` are functions of arrays, `recurrence` runs cells over sequences, and `equations` makes cells of
functions. Each imports from those before it only.
"""
