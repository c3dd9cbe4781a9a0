"""Used by all pictures: axes, colours, labels of time steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import integer
from fastrnn.extras import extra

__all__ = [
    "COLOURS",
    "LINES",
    "MARKERS",
    "axes_of",
    "chosen_sample",
    "label_steps",
    "new_axes",
    "step_labels",
]

#: Colours for readers with colour blindness (Okabe & Ito 2008), ordered so that neighbours differ in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: Line styles and markers for these colours.
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def new_axes(n: int = 1, **kwargs: Any) -> Any:
    """One matplotlib Axes, or `n` in a row."""
    return extra("matplotlib.pyplot", "plot").subplots(1, n, layout="constrained", **kwargs)[1]


def axes_of(given: Any, n: int, what: str) -> NDArray[Any]:
    """`given` as an array of at least `n` axes."""
    axes = np.atleast_1d(given)
    if len(axes) < n:
        raise ValueError(f"axes has {len(axes)} places for {n} {what}")
    return axes


def chosen_sample(found: Sequence[Any], sample: Any) -> Any:
    """The entry of one sequence; negative numbers count from the end.

    Raises
    ------
    ValueError
        If there is no sequence of this number.
    """
    number = integer(sample, "sample", -len(found))
    if number >= len(found):
        raise ValueError(f"sample={sample}: X holds {len(found)} sequences")
    return found[number]


def step_labels(labels: Any, n_steps: int) -> list[str] | None:
    """Tokens or time stamps of the steps as text, or None.

    Raises
    ------
    ValueError
        If there is not one for each step.
    """
    if labels is None:
        return None
    stamps = labels
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "M":
        stamps = np.datetime_as_string(labels)
    texts = [str(label) for label in stamps]
    if len(texts) != n_steps:
        raise ValueError(f"labels has {len(texts)} entries, the sequence {n_steps} steps")
    return texts


def label_steps(ax: Any, labels: Sequence[str] | None, most: int = 24) -> None:
    """Write the labels under the time axis of `ax`, at most `most` of them, evenly spaced."""
    if labels is None:
        ax.set_xlabel("time step")
        ax.xaxis.get_major_locator().set_params(integer=True)
        return
    every = -(-len(labels) // most)
    places = list(range(0, len(labels), every))
    ax.set_xticks(places, [labels[i] for i in places], rotation=90 if len(places) > 8 else 30)
