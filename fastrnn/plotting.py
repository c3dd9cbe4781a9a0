"""Pictures of training and of forecasts.

Needs matplotlib (the extra ``plot``), which is imported when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_forecast", "plot_learning_curves"]


def _new_axes(n: int = 1, **kwargs: Any) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('pictures need matplotlib; install it with: pip install "fastrnn[plot]"') from error
    return pyplot.subplots(1, n, layout="constrained", **kwargs)[1]


def _curves(training: Any) -> dict[str, list[float]]:
    """Named curves, one value an epoch, of a History, a dict of curves or a fitted estimator."""
    history = getattr(training, "history", training)
    if isinstance(history, Mapping):
        return {name: list(values) for name, values in history.items()}
    if hasattr(training, "loss_curve_"):
        curves = {"loss": list(training.loss_curve_)}
        scores = getattr(training, "validation_scores_", None)
        if scores is not None and len(scores):
            curves["val_score"] = list(scores)
        return curves
    raise ValueError(
        f"no learning curves in a {type(training).__name__}; pass what fit of a Sequential returned, its dict of "
        "curves, or a fitted estimator"
    )


def plot_learning_curves(training: Any, *, axes: Any = None, title: str | None = None) -> Any:
    """Draw each quantity over the epochs, training and validation in one picture.

    Parameters
    ----------
    training : History, dict or fitted estimator
        What ``Sequential.fit`` returned, its ``history``, or an `RNNClassifier` or `RNNRegressor`.
    axes : Axes, array of Axes or None
        Where to draw, one for each quantity; None makes a new figure.
    title : str or None
        Title of the first picture.

    Returns
    -------
    ndarray of matplotlib Axes
        One for each quantity: loss, accuracy and so on.
    """
    curves = _curves(training)
    quantities = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    if not quantities:
        raise ValueError("there is no curve to draw: the training has seen no epoch")
    if axes is None:
        axes = _new_axes(len(quantities), figsize=(5 * len(quantities), 3.6))
    axes = np.atleast_1d(axes)
    if len(axes) < len(quantities):
        raise ValueError(f"axes has {len(axes)} places for {len(quantities)} quantities: {quantities}")
    for ax, quantity in zip(axes, quantities, strict=False):
        for name, label, style in ((quantity, "training", "-"), (f"val_{quantity}", "validation", "--")):
            if name in curves:
                epochs = np.arange(1, len(curves[name]) + 1)
                ax.plot(epochs, curves[name], style, label=label, marker="." if len(epochs) < 30 else None)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylabel(quantity.replace("_", " "))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    if title is not None:
        axes[0].set_title(title)
    return axes


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
        ax = _new_axes(figsize=(9, 3.6))
    ax.plot(steps, values, color="black", linewidth=1.2, label="truth")
    for name, forecast in drawn.items():
        ax.plot(steps[len(steps) - len(forecast) :], forecast, "--", linewidth=1.6, label=name)
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
