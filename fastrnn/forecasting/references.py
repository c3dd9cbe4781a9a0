"""Simple forecasts, the references, and the plan of how targets are made relative to them."""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.forecasting.linear import LinearForecast

__all__ = ["Reference", "TargetPlan", "references_for"]


#: The window of the linear forecast: a multiple of the longest season, and a minimum number of steps.
_SEASONS_OF_WINDOW = 2
_LEAST_WINDOW = 24


class Reference(NamedTuple):
    """A simple forecast.

    Attributes
    ----------
    kind : {"last", "season", "smooth", "drift", "linear"}
    lag : int
        Steps of a season; 1 for "last", those of the window for "linear".
    """

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
    linear : LinearForecast, optional
        The reference of kind "linear", once it is fitted.
    """

    horizon: int
    references: tuple[Reference, ...]
    log: bool = False
    zero_based: bool = False
    compare: bool = False
    season: int = 1
    linear: LinearForecast | None = None

    @property
    def lags(self) -> tuple[int, ...]:
        """Lags at which values are compared: 1 and the seasons."""
        return tuple(sorted({1, self.season, *(r.lag for r in self.references if r.kind != "linear")}))

    @property
    def probes(self) -> tuple[int, ...]:
        """Steps ahead at which the references' errors are measured: the first, the middle and the last."""
        return tuple(sorted({1, -(-self.horizon // 2), self.horizon}))

    @property
    def seasonal(self) -> tuple[int, ...]:
        """Numbers of the references of kind "season"."""
        return tuple(i for i, r in enumerate(self.references) if r.kind == "season")


def references_for(seasons: tuple[int, ...], target: str) -> tuple[Reference, ...]:
    """Return the references that `target` (a parameter of the forecaster) names."""
    seasonal = tuple(Reference("season", m) for m in seasons if m > 1)
    smooth = tuple(Reference("smooth", m) for m in seasons if m > 1)
    drift = tuple(Reference("drift", m) for m in seasons[:1] if m > 1)
    last = (Reference("last", 1),)
    linear = (Reference("linear", max(_SEASONS_OF_WINDOW * max(seasons), _LEAST_WINDOW)),)
    if target == "last":
        return last
    if not seasonal:
        return last + linear if target == "linear" else last
    return {
        "auto": last + seasonal + smooth + drift,
        "season": last + seasonal,
        "smooth": last + smooth,
        "drift": last + drift,
        "linear": last + seasonal + smooth + drift + linear,
    }[target]
