"""Simple forecasts, the references, and the plan of how targets are made relative to them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Reference", "TargetPlan", "references_for"]


class Reference(NamedTuple):
    """A simple forecast: `kind` is "last", "season", "smooth" or "drift"; `lag` the steps of a season (1 for "last")."""

    kind: str
    lag: int


class TargetPlan(NamedTuple):
    """How targets are made relative to references.

    Attributes
    ----------
    horizon : int
        Steps ahead.
    references : tuple of Reference
        References to choose from.
    log : bool
        Whether s is the logarithm of y.
    zero_based : bool
        Subtract nothing, and divide by the mean of the series up to the origin. For counts.
    season : int
        Lag of the seasonal naive forecast, the baseline of errors.
    compare : bool
        Whether features include nearly constant properties of each series. With many series, they distinguish the series;
        with few series, the network would use them to identify the time of a step, and overfit.
    """

    horizon: int
    references: tuple[Reference, ...]
    log: bool = False
    zero_based: bool = False
    compare: bool = False
    season: int = 1

    @property
    def lags(self) -> tuple[int, ...]:
        """Lags at which values are compared: 1 and the seasons."""
        return tuple(sorted({1, self.season, *(r.lag for r in self.references)}))

    @property
    def probes(self) -> tuple[int, ...]:
        """Steps ahead at which the references' errors are measured: the first, the middle and the last."""
        return tuple(sorted({1, -(-self.horizon // 2), self.horizon}))

    @property
    def seasonal(self) -> tuple[int, ...]:
        """Numbers of the references of kind "season"."""
        return tuple(i for i, r in enumerate(self.references) if r.kind == "season")


def references_for(seasons: tuple[int, ...], target: str) -> tuple[Reference, ...]:
    """Return the references that `target` ("auto", "last", "season", "smooth" or "drift") names."""
    seasonal = tuple(Reference("season", m) for m in seasons if m > 1)
    smooth = tuple(Reference("smooth", m) for m in seasons if m > 1)
    drift = tuple(Reference("drift", m) for m in seasons[:1] if m > 1)
    last = (Reference("last", 1),)
    if target == "last" or not seasonal:
        return last
    return {
        "auto": last + seasonal + smooth + drift,
        "season": last + seasonal,
        "smooth": last + smooth,
        "drift": last + drift,
    }[target]
