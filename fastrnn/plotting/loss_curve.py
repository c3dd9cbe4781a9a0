"""Loss and metrics over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.plotting.common import COLOURS, MARKERS, axes_of, new_axes
from fastrnn.training.callback import History

__all__ = ["LossCurveDisplay", "plot_learning_curves"]


def _curves(training: Any) -> dict[str, list[float]]:
    """Curves by name, with one value for each epoch, of a History, a dict, a fitted estimator or a trained model."""
    history = getattr(training, "history", training)
    if isinstance(history, History):
        history = history.history
    if isinstance(history, Mapping):
        return {name: list(values) for name, values in history.items()}
    from fastrnn.inspection.network import final_estimator

    fitted, _ = final_estimator(training)
    losses = getattr(fitted, "loss_curve_", None)
    if losses is None:
        raise ValueError(
            f"no learning curves in a {type(fitted).__name__}; pass the History that fit of a Sequential returned, its "
            "dict of curves, or a fitted estimator: call fit first"
        )
    curves = {"loss": list(losses)}
    scores = getattr(fitted, "validation_scores_", None)
    if scores is not None and len(scores):
        curves["val_score"] = list(scores)
    return curves


@dataclass(repr=False)
class LossCurveDisplay:
    """Loss, metrics and scores over the epochs, with training and validation in one picture.

    Make it with :meth:`from_estimator` or :meth:`from_history`.

    Parameters
    ----------
    curves : dict of str to list of float
        Curves by name, with one value for each epoch; ``val_NAME`` is the validation curve of ``NAME``.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each quantity: loss, accuracy and so on.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from fastrnn.plotting import LossCurveDisplay
    >>> display = LossCurveDisplay.from_history({"loss": [0.7, 0.4, 0.3], "val_loss": [0.7, 0.5, 0.5]})
    >>> display.axes_[0].get_ylabel(), len(display.axes_[0].lines)
    ('loss', 2)
    """

    curves: dict[str, list[float]]
    figure_: Any = None
    axes_: Any = None

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, axes: Any = None, title: str | None = None
    ) -> LossCurveDisplay:
        """Draw the curves of a fitted estimator.

        Parameters
        ----------
        estimator : fitted RNNClassifier, RNNRegressor, RNNForecaster or Sequential
            Or a pipeline or search that ends in one.
        axes : Axes, array of Axes or None
            Where to draw, one for each quantity; None makes a new figure.
        title : str or None
            Title of the first picture.
        """
        return cls(_curves(estimator)).plot(axes=axes, title=title)

    @classmethod
    def from_history(cls, history: Any, *, axes: Any = None, title: str | None = None) -> LossCurveDisplay:
        """Draw the History of ``Sequential.fit``, or a dict of curves; otherwise as :meth:`from_estimator`."""
        return cls(_curves(history)).plot(axes=axes, title=title)

    def plot(self, *, axes: Any = None, title: str | None = None) -> LossCurveDisplay:
        """Draw; `axes` and `title` as in :meth:`from_estimator`."""
        quantities = list(dict.fromkeys(name.removeprefix("val_") for name in self.curves))
        if not quantities:
            raise ValueError("there is no curve to draw: no epoch was trained")
        if axes is None:
            axes = new_axes(len(quantities), figsize=(5 * len(quantities), 3.6))
        axes = axes_of(axes, len(quantities), f"quantities: {quantities}")
        for ax, quantity in zip(axes, quantities, strict=False):
            self._draw(ax, quantity)
        if title is not None:
            axes[0].set_title(title)
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def _draw(self, ax: Any, quantity: str) -> None:
        kinds = ((quantity, "training", "-"), (f"val_{quantity}", "validation", "--"))
        for k, (name, label, style) in enumerate(kinds):
            if name in self.curves:
                values = self.curves[name]
                epochs = np.arange(1, len(values) + 1)
                marker = MARKERS[k] if len(epochs) < 30 else None
                ax.plot(epochs, values, style, color=COLOURS[k], label=label, marker=marker, markersize=4)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylabel(quantity.replace("_", " "))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)


def plot_learning_curves(training: Any, *, axes: Any = None, title: str | None = None) -> Any:
    """Draw each quantity over the epochs: :class:`LossCurveDisplay` as a function.

    Parameters
    ----------
    training : History, dict or fitted estimator
        The result of ``Sequential.fit``, its ``history``, or a fitted `RNNClassifier` or `RNNRegressor`.
    axes : Axes, array of Axes or None
        Where to draw, one for each quantity; None makes a new figure.
    title : str or None
        Title of the first picture.

    Returns
    -------
    ndarray of matplotlib Axes
        One for each quantity: loss, accuracy and so on.

    Examples
    --------
    >>> from fastrnn.plotting import plot_learning_curves
    >>> axes = plot_learning_curves({"loss": [0.7, 0.4], "accuracy": [0.5, 0.8]})
    >>> [ax.get_ylabel() for ax in axes]
    ['loss', 'accuracy']
    """
    return LossCurveDisplay.from_history(training, axes=axes, title=title).axes_
