"""A series and forecasts of its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.plotting.common import COLOURS, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_forecast"]


def plot_forecast(
    truth: ArrayLike,
    forecasts: Mapping[str, ArrayLike],
    *,
    time: ArrayLike | None = None,
    ax: Axes | None = None,
    ylabel: str | None = None,
    title: str | None = None,
) -> Axes:
    """Draw a series and forecasts of its end.

    Parameters
    ----------
    truth : array-like of shape (n_steps,)
        The series, with the part of the past that the picture shows.
    forecasts : dict of str to array-like of shape (n_ahead,)
        Forecasts of the last `n_ahead` steps of the truth, by name.
    time : array-like of shape (n_steps,) or None
        Times or dates; None counts steps.
    ax : Axes or None
        Where to draw; None makes a new figure.
    ylabel, title : str or None
        Label of the values, title of the picture.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from fastrnn.datasets import load_airline
    >>> from fastrnn.plotting import plot_forecast
    >>> passengers = load_airline().values
    >>> ax = plot_forecast(passengers[-36:], {"year before": passengers[-24:-12]}, ylabel="passengers")
    >>> len(ax.lines)
    3
    """
    values = np.asarray(truth, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"truth has shape {values.shape}; pass one variable of shape (n_steps,)")
    steps = np.arange(len(values)) if time is None else np.asarray(time)
    if steps.shape != values.shape:
        raise ValueError(f"time has shape {steps.shape}, truth {values.shape}; they must be the same")
    if steps.dtype.kind == "M":  # matplotlib takes days and finer, not months
        steps = steps.astype("datetime64[s]")
    drawn = {name: np.asarray(forecast, dtype=float) for name, forecast in forecasts.items()}
    for name, forecast in drawn.items():
        if forecast.ndim != 1 or len(forecast) > len(values):
            raise ValueError(
                f"forecasts[{name!r}] has shape {forecast.shape}; pass at most {len(values)} steps"
            )
    if ax is None:
        ax = new_axes(figsize=(9, 3.6))
    ax.plot(steps, values, color="black", linewidth=1.2, label="truth")
    for k, (name, forecast) in enumerate(drawn.items()):
        style, colour = ("--", "-.", ":")[k % 3], COLOURS[k % len(COLOURS)]
        ax.plot(
            steps[len(steps) - len(forecast) :],
            forecast,
            linestyle=style,
            color=colour,
            linewidth=1.6,
            label=name,
        )
    longest = max((len(forecast) for forecast in drawn.values()), default=0)
    if longest:
        ax.axvline(steps[len(steps) - longest], color="grey", linewidth=0.8, linestyle=":")
    if ylabel is not None:
        ax.set_ylabel(ylabel)
    if title is not None:
        ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax
