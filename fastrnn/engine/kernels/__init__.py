"""Compiled functions of arrays: products, elementary functions, activations, losses, updates."""
