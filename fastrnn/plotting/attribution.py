"""Attribution of a prediction to time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.inspection import DeletionCurve, attributions, deletion_curve
from fastrnn.plotting.common import COLOURS, axes_of, chosen_sample, label_steps, new_axes, step_labels

__all__ = ["AttributionDisplay"]

_MOST_LABELS = 24


@dataclass(repr=False)
class AttributionDisplay:
    """Attribution of a prediction to the time steps of a sequence, with a check by deleting steps.

    The bars are gradient times input: positive ones (blue, plain) increase the predicted value, negative ones (orange,
    hatched) decrease it. The second picture is a check on all sequences: when the steps with the largest attributions are
    deleted first, the predicted value should fall faster than when random steps are deleted. Make it with
    :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    attributions : ndarray of shape (n_timesteps,)
        Attributions of one sequence; see :func:`fastrnn.inspection.attributions`.
    labels : list of str or None
        Tokens or time stamps of the steps.
    deletion : DeletionCurve or None
        Result of the check; None omits the second picture.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        Axes of the bars, and of the check if there is one.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> from fastrnn.plotting import AttributionDisplay
    >>> X = np.random.default_rng(0).normal(size=(200, 6, 1))
    >>> model = RNNRegressor(units=8, learning_rate_init=0.01, max_iter=60, tol=None, random_state=0).fit(X, X[:, 3, 0])
    >>> display = AttributionDisplay.from_estimator(model, X, sample=0, random_state=0)
    >>> int(np.abs(display.attributions).argmax()), len(display.axes_)
    (3, 2)
    """

    attributions: ArrayLike
    labels: Any = None
    deletion: DeletionCurve | None = None
    figure_: Any = None
    axes_: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        sample: int = 0,
        target: Any = None,
        labels: Any = None,
        check: bool = True,
        random_state: Any = None,
        axes: Any = None,
        title: str | None = None,
    ) -> AttributionDisplay:
        """Compute the attributions, check them by deleting steps, and draw both.

        Parameters
        ----------
        estimator : fitted RNNClassifier or RNNRegressor, or Sequential
            Or a pipeline or search that ends in one; with one output for each sequence.
        X : array-like
            Sequences, in a form that the estimator takes. The check uses all of them.
        sample : int
            The sequence whose steps are drawn.
        target : label or int, optional
            Class or output that is explained; by default the class that is predicted, or the first output.
        labels : array-like of shape (n_timesteps,), optional
            Tokens or time stamps of that sequence's steps.
        check : bool
            Whether to check and draw the check.
        random_state : int, RandomState or None
            Seed of the random order in the check.
        axes : array of two Axes, or one without the check, or None
            Where to draw; None makes a new figure.
        title : str or None
            Title of the first picture.
        """
        found = attributions(estimator, X, target=target)
        chosen = chosen_sample(found, sample)
        step_labels(labels, len(chosen))
        curve = deletion_curve(estimator, X, target=target, random_state=random_state) if check else None
        return cls(chosen, labels, curve).plot(axes=axes, title=title)

    @classmethod
    def from_predictions(
        cls,
        attributions: ArrayLike,
        *,
        labels: Any = None,
        deletion: DeletionCurve | None = None,
        axes: Any = None,
        title: str | None = None,
    ) -> AttributionDisplay:
        """Draw given attributions ``(n_timesteps,)``; otherwise as :meth:`from_estimator`."""
        return cls(attributions, labels, deletion).plot(axes=axes, title=title)

    def plot(self, *, axes: Any = None, title: str | None = None) -> AttributionDisplay:
        """Draw; parameters as in :meth:`from_estimator`."""
        values = np.asarray(self.attributions, dtype=float)
        if values.ndim != 1 or not values.size:
            raise ValueError(
                f"attributions has shape {values.shape}; pass those of one sequence, (n_timesteps,)"
            )
        labels = step_labels(self.labels, len(values))
        n = 1 if self.deletion is None else 2
        if axes is None:
            ratios = [1] if n == 1 else [2, 1]
            axes = new_axes(n, figsize=(6.4 * n - 1.4 * (n - 1), 3.8), gridspec_kw={"width_ratios": ratios})
        axes = axes_of(axes, n, "pictures")
        _bars(axes[0], values, labels)
        if title is not None:
            axes[0].set_title(title)
        if self.deletion is not None:
            _check(axes[1], self.deletion)
        self.attributions, self.labels = values, labels
        self.axes_, self.figure_ = axes, axes[0].figure
        return self


def _bars(ax: Any, values: np.ndarray, labels: list[str] | None) -> None:
    steps = np.arange(len(values))
    for speaks, colour, hatch, label in (
        (values >= 0, COLOURS[0], None, "for"),
        (values < 0, COLOURS[1], "///" if len(values) <= 60 else None, "against"),
    ):
        ax.bar(
            steps[speaks],
            values[speaks],
            width=0.8,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=label,
        )
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("gradient × input")
    ax.legend(frameon=False, fontsize="small")
    if labels is not None and len(labels) > _MOST_LABELS:
        # Too many labels to read: only those of the largest attributions.
        most = np.argsort(-np.abs(values), kind="stable")[:_MOST_LABELS]
        places = _apart(most, -(-len(values) // 40))
        ax.set_xticks(places, [labels[i] for i in places], rotation=90, fontsize="small")
        return
    label_steps(ax, labels, _MOST_LABELS)


def _apart(places: np.ndarray, least: int) -> list[int]:
    """Places in ascending order, without those that are closer than `least` to a previous one."""
    kept: list[int] = []
    for place in places.tolist():
        if all(abs(place - other) >= least for other in kept):
            kept.append(place)
    return sorted(kept)


def _check(ax: Any, curve: DeletionCurve) -> None:
    percent = 100 * np.asarray(curve.fractions)
    for values, label, colour, style, marker in (
        (curve.most, "most attributed", COLOURS[1], "-", "s"),
        (curve.random, "at random", COLOURS[6], ":", "o"),
        (curve.least, "least attributed", COLOURS[0], "--", "^"),
    ):
        ax.plot(percent, values, color=colour, linestyle=style, marker=marker, markersize=4, label=label)
    ax.set_xlabel("steps deleted, %")
    ax.set_ylabel("mean answer")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize="small", title="deleted first")
