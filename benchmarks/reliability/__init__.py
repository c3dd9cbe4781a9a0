"""Figures of trust: what happens to damaged files, strange inputs, threads, forks, interrupts and long runs."""
