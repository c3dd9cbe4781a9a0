"""Compiling functions and calling machine code: compiler options, cache, linking, threads, memory."""
