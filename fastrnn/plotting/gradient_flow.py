"""The gradient of the loss by time step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.inspection import gradient_norms
from fastrnn.plotting.common import COLOURS, LINES, new_axes

__all__ = ["GradientFlowDisplay"]


@dataclass(repr=False)
class GradientFlowDisplay:
    """The norm of the gradient of the loss by time step, counted back from the last step.

    A line that falls steeply shows a vanishing gradient: the network does not learn from distant steps. A line that rises
    shows an exploding gradient, against which `clipnorm` helps. The line is the median over the sequences, the band
    contains the middle 80 % of them. Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    norms : dict of str to list of ndarray of shape (n_timesteps_i,)
        Norms for each recurrent layer by name; see :func:`fastrnn.inspection.gradient_norms`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One for each layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> from fastrnn.plotting import GradientFlowDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 30, 1))
    >>> model = RNNRegressor(cell="simple_rnn", units=4, max_iter=2, tol=None, random_state=0).fit(X, X[:, -1, 0])
    >>> display = GradientFlowDisplay.from_estimator(model, X, X[:, -1, 0])
    >>> display.ax_.get_xlabel()
    'steps before the last'
    """

    norms: Mapping[str, Sequence[NDArray[Any]]]
    figure_: Any = None
    ax_: Any = None
    lines_: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        relative: bool = True,
        ax: Any = None,
        title: str | None = None,
    ) -> GradientFlowDisplay:
        """Compute the gradients and draw them.

        Parameters
        ----------
        estimator : fitted RNNClassifier or RNNRegressor, or compiled Sequential
            Or a pipeline or search that ends in one.
        X : array-like
            Sequences, some hundreds at most.
        y : array-like
            Targets.
        relative : bool
            Whether to divide each sequence's norms by the norm at its last step.
        ax : Axes or None
            Where to draw; None makes a new figure.
        title : str or None
        """
        return cls(gradient_norms(estimator, X, y)).plot(relative=relative, ax=ax, title=title)

    @classmethod
    def from_predictions(
        cls,
        norms: Mapping[str, Sequence[NDArray[Any]]],
        *,
        relative: bool = True,
        ax: Any = None,
        title: str | None = None,
    ) -> GradientFlowDisplay:
        """Draw given norms, by the names of their lines; otherwise as :meth:`from_estimator`."""
        return cls(norms).plot(relative=relative, ax=ax, title=title)

    def plot(self, *, relative: bool = True, ax: Any = None, title: str | None = None) -> GradientFlowDisplay:
        """Draw; parameters as in :meth:`from_estimator`."""
        if not self.norms:
            raise ValueError("norms is empty: there is no layer to draw")
        ax = new_axes(figsize=(6.4, 3.8)) if ax is None else ax
        self.lines_ = []
        for k, (name, norms) in enumerate(self.norms.items()):
            table = _aligned(norms, relative)
            back = np.arange(table.shape[1])
            # Leave out steps that fewer than a quarter of the sequences have.
            shown = np.isfinite(table).sum(axis=0) * 4 >= len(table)
            table, back = table[:, shown], back[shown]
            middle = np.nanmedian(table, axis=0)
            colour, style = COLOURS[k % len(COLOURS)], LINES[k % len(LINES)]
            self.lines_ += ax.plot(back, middle, color=colour, linestyle=style, label=name)
            if len(table) > 1:
                low, high = np.nanquantile(table, [0.1, 0.9], axis=0)
                ax.fill_between(back, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.set_yscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("steps before the last")
        ax.set_ylabel("gradient norm, relative to the last step" if relative else "gradient norm")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
        if title is not None:
            ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _aligned(norms: Sequence[NDArray[Any]], relative: bool) -> NDArray[Any]:
    """Norms as a table (sequences, steps before the last); NaN where a sequence is shorter or the norm is zero."""
    table = np.full((len(norms), max(len(n) for n in norms)), np.nan)
    for row, norm in zip(table, norms, strict=True):
        back = np.asarray(norm, dtype=float)[::-1]
        if relative and len(back) and back[0] > 0:
            back = back / back[0]
        row[: len(back)] = np.where(
            back > 0, back, np.nan
        )  # a norm that underflowed to zero has no logarithm
    return table
