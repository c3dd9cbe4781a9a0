"""Reliability figures: damaged files, unusual inputs, threads, forks, interrupts and long runs."""
