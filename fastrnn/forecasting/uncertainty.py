"""Quantiles, intervals and sample paths of a forecaster."""

from __future__ import annotations

__all__ = ["Uncertainty"]


class Uncertainty:
    """The part of a forecaster that tells how sure it is."""
