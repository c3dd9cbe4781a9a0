"""Options of a pass of a cell over the time steps of a sequence, and passes of several cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["ChainedPlans", "TimeOptions", "shown"]


class TimeOptions(NamedTuple):
    """Options of one pass over the time steps.

    Attributes
    ----------
    sequences : bool
        Return the output of every time step, in the order of processing; otherwise that of the last one.
    reverse : bool
        Process the time steps from last to first.
    zero_masked : bool
        The output of a masked step is zero; otherwise it is that of the step before.
    n_threads : int or None
        Largest number of threads; None: the cores that this process may use.
    unroll : bool
        Use the kernels that are compiled for the number of units.
    """

    sequences: bool = False
    reverse: bool = False
    zero_masked: bool = False
    n_threads: int | None = None
    unroll: bool = False

    def in_order(self, mask: np.ndarray | None) -> np.ndarray | None:
        """The mask in the order in which the steps are computed."""
        return mask[:, ::-1] if self.reverse and mask is not None else mask


def shown(
    y: Any, mask: np.ndarray | None, stepped: bool, options: TimeOptions
) -> tuple[Any, np.ndarray | None]:
    """The output of a pass, and booleans, True for sequences whose last output is their state; None if all are True.

    Parameters
    ----------
    y : array
        All outputs, or the states after the last step.
    mask : array of bool of shape (batch, time), optional
        In the order of processing.
    stepped : bool
        Whether each sequence has a step that is not masked.
    options : TimeOptions
    """
    if mask is None or options.sequences or (stepped and not options.zero_masked):
        return y, None
    # The output of a masked step is zero before the first valid step, and always with `zero_masked`.
    ends_valid = mask[:, -1] if options.zero_masked else np.asarray(mask.any(axis=1))
    return np.where(ends_valid[:, None], y, y.dtype.type(0)), ends_valid


class ChainedPlans(NamedTuple):
    """Prepared passes of several cells, each over the whole sequence before the next one."""

    plans: tuple[Any, ...]

    @property
    def takes_masks(self) -> bool:
        """Whether calls with a mask are made by `masked`."""
        return all(plan.takes_masks for plan in self.plans)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for plan in self.plans:
            x = plan(x)
        return x

    def masked(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, bool]:
        """The output for a mask in processing order, and whether each sequence has a valid step."""
        stepped = True
        for plan in self.plans:
            x, stepped = plan.masked(x, mask)
        return x, stepped
