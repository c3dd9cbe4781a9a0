"""Hidden units over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.inspection import hidden_states
from fastrnn.plotting.common import chosen_sample, label_steps, new_axes, step_labels

__all__ = ["HiddenStateDisplay"]

_MOST_UNITS = 32


@dataclass(repr=False)
class HiddenStateDisplay:
    """The hidden state of one sequence: units from top to bottom, time from left to right.

    Similar units are adjacent: units are ordered by the first principal component of their values over time. Make it with
    :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    states : ndarray of shape (n_timesteps, units)
    labels : list of str or None
        Tokens or time stamps of the steps.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    units_ : ndarray of int
        Numbers of the units that are drawn, from top to bottom.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.plotting import HiddenStateDisplay
    >>> model = Sequential([layers.Input((None, 2)), layers.GRU(3), layers.Dense(1)], seed=0)
    >>> display = HiddenStateDisplay.from_estimator(model, np.ones((4, 5, 2)), labels=["a", "b", "c", "d", "e"])
    >>> display.states.shape, [text.get_text() for text in display.ax_.get_xticklabels()]
    ((5, 3), ['a', 'b', 'c', 'd', 'e'])
    """

    states: ArrayLike
    labels: Any = None
    figure_: Any = None
    ax_: Any = None
    units_: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        sample: int = 0,
        layer: str | int | None = None,
        labels: Any = None,
        units: ArrayLike | None = None,
        ax: Any = None,
        title: str | None = None,
    ) -> HiddenStateDisplay:
        """Compute the hidden state of one sequence and draw it.

        Parameters
        ----------
        estimator : fitted RNNClassifier or RNNRegressor, or Sequential
            Or a pipeline or search that ends in one.
        X : array-like
            Sequences, in a form that the estimator takes.
        sample : int
            Index of the sequence.
        layer : str or int, optional
            Name or number of the recurrent layer; the last by default.
        labels : array-like of shape (n_timesteps,), optional
            Tokens or time stamps, written under the steps.
        units : array-like of int, optional
            Units to draw, from top to bottom; by default all, or the 32 that change most, ordered by similarity.
        ax : Axes or None
            Where to draw; None makes a new figure.
        title : str or None
        """
        found = hidden_states(estimator, X, layer=layer)
        return cls(chosen_sample(found, sample), labels).plot(units=units, ax=ax, title=title)

    @classmethod
    def from_predictions(
        cls,
        states: ArrayLike,
        *,
        labels: Any = None,
        units: ArrayLike | None = None,
        ax: Any = None,
        title: str | None = None,
    ) -> HiddenStateDisplay:
        """Draw given states ``(n_timesteps, units)``; otherwise as :meth:`from_estimator`."""
        return cls(states, labels).plot(units=units, ax=ax, title=title)

    def plot(
        self, *, units: ArrayLike | None = None, ax: Any = None, title: str | None = None
    ) -> HiddenStateDisplay:
        """Draw; parameters as in :meth:`from_estimator`."""
        states = np.asarray(self.states, dtype=float)
        if states.ndim != 2 or not states.size:
            raise ValueError(f"states has shape {states.shape}; pass one sequence, (n_timesteps, units)")
        labels = step_labels(self.labels, len(states))
        if units is None:
            order = _by_likeness(states)
        else:
            order = np.atleast_1d(np.asarray(units))
            if order.dtype.kind not in "iu" or order.min() < 0 or order.max() >= states.shape[1]:
                raise ValueError(f"units={units!r}: give numbers of units from 0 to {states.shape[1] - 1}")
        if ax is None:
            ax = new_axes(figsize=(min(4 + 0.12 * len(states), 10), min(1.8 + 0.14 * len(order), 6)))
        limit = max(float(np.abs(states[:, order]).max()), 1e-12)
        # A colour map with increasing lightness, which can be read in grey too.
        image = ax.imshow(
            states[:, order].T,
            aspect="auto",
            cmap="cividis",
            vmin=-limit,
            vmax=limit,
            interpolation="nearest",
        )
        ax.set_yticks(range(len(order)), [str(u) for u in order], fontsize="x-small")
        if len(order) > 16:
            ax.set_yticks(range(0, len(order), 4), [str(u) for u in order[::4]], fontsize="x-small")
        ax.set_ylabel("unit")
        label_steps(ax, labels)
        ax.figure.colorbar(image, ax=ax, label="hidden state", fraction=0.05, pad=0.02)
        if title is not None:
            ax.set_title(title)
        self.states, self.labels, self.units_ = states, labels, order
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _by_likeness(states: np.ndarray) -> np.ndarray:
    """The units that change most, ordered by the first principal component of their values over time."""
    courses = states - states.mean(axis=0)
    chosen = np.sort(np.argsort(-courses.var(axis=0), kind="stable")[:_MOST_UNITS])
    courses = courses[:, chosen]
    direction = np.linalg.svd(courses, full_matrices=False)[2][0]
    return chosen[np.argsort(direction, kind="stable")]
