"""The interface of a cell: a NamedTuple of numbers, its traits, and two pointwise bodies.

The engine computes everything that all cells share: input products, recurrent products, dropout masks, time loops, threads,
weight gradients. A cell defines the computation between the products::

    z   = b + x @ W              (n_gates * n_units columns; the engine, before the step)
    z  += h_prev @ U             (the engine; into `hu = b_rec + h_prev @ U` instead, where `split`)
    states = step_forward(z, hu, previous states)
    dz, du, d(previous states) = step_backward(d(states), saved values)
    d(h_prev) += du @ U.T        (the engine)

The bodies get these arrays as one record, a `Forward` or a `Backward`, and write their results into it.

Recurrent columns can be divided into equal *groups*, with one product for each. The last `late` groups have a left operand
that the step computes, such as ``r * h_prev`` in a GRU with ``reset_after=False``: such a cell is called in two phases,
before and after these products (in the opposite order in the backward pass).

The name of a field with the code of an activation ends in ``activation``, so that the engine compiles the activation before
a call.

The rows of a step are independent: several threads may compute some of them each (see `split_step`), with separate `scratch`
memory. Only `d_extra` is a sum over all rows, so the backward body of a cell with `extra` gets all rows at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastrnn.engine.runtime.jit import body_of, stub

__all__ = [
    "Backward",
    "Forward",
    "Traits",
    "UnrollableCell",
    "step_backward",
    "step_forward",
    "traits",
    "unit_range",
]


class Traits(NamedTuple):
    """Properties of a cell; sizes are in units of `n_units` columns.

    Attributes
    ----------
    n_gates : int
        Columns of ``z``, of the kernel, the recurrent kernel and the bias.
    n_states : int
        State arrays, the output first.
    n_saved : int
        Columns that `step_forward` keeps for `step_backward`.
    split : bool
        Whether the recurrent product has its own bias and columns ``hu``, and its own gradient ``du``.
    recurrent : bool
        Whether there is a recurrent kernel.
    late : int
        Number of the last groups of gates whose left operand is computed in phase 0.
    operand : int
        Index of this operand in the saved columns.
    n_extra : int
        Further parameters (peepholes, a recurrent vector), as ``n_extra * n_units`` numbers.
    by_units : bool
        Whether the bodies compute only the units that `first` and `n_units` of their record give, so that threads can have
        units of their own. Otherwise they are called for all units.
    """

    n_gates: int
    n_states: int = 1
    n_saved: int = 0
    split: bool = False
    recurrent: bool = True
    late: int = 0
    operand: int = 0
    n_extra: int = 0
    by_units: bool = False


class Forward(NamedTuple):
    """One time step of some rows, and of some units if the cell's trait `by_units` is set.

    Columns of all units are in `z`, `hu`, `saved` and `extra`; `previous`, `states` and `operand` have only those computed.

    Attributes
    ----------
    z : (n, n_gates * n_units) array
        Pre-activations; may be overwritten.
    hu : (n, n_gates * n_units) array
        The recurrent product, if the cell is `split`.
    previous : (n_states, n, n_units) array
        The states before the step; must not be written.
    states : (n_states, n, n_units) array
        The states after the step, which the body writes.
    saved : (n, n_saved * n_units) array
        Values for `step_backward`, which the body writes if `save` is not 0; otherwise it has no elements.
    operand : (n, n_units) array
        Left operand of the late products, which the body writes in phase 0.
    extra : (n_extra * n_units,) array
        Further parameters.
    scratch : (n_gates + 4, n_units) array
        Scratch memory of the body.
    save : int
        Whether the body must write `saved`.
    first, n_units : int or None
        The first unit to compute, and the number of units; None for all units. See `unit_range`.
    weights : tuple of arrays, or None
        The packed recurrent kernel and the recurrent bias, if the body computes the recurrent product itself (see
        `UnrollableCell.computes_product`): `z` does not include it, and `hu` is not used.
    """

    z: np.ndarray
    hu: np.ndarray
    previous: np.ndarray
    states: np.ndarray
    saved: np.ndarray
    operand: np.ndarray
    extra: np.ndarray
    scratch: np.ndarray
    save: int
    first: int | None = None
    n_units: int | None = None
    weights: tuple[np.ndarray, np.ndarray] | None = None


class Backward(NamedTuple):
    """The gradient of one time step; arrays that `Forward` has too must not be written, and columns are as there.

    Attributes
    ----------
    ds : (n_states, n, n_units) array
        On entry the gradient with respect to the new states, on return that with respect to the previous states without
        the part through the recurrent products, which the engine adds.
    previous, states, saved, extra, scratch
        As in `Forward`.
    dz, du : (n, n_gates * n_units) arrays
        Gradients of the input columns and of the recurrent columns, which the body writes; the same array unless the cell
        is `split`.
    d_operand : (n, n_units) array
        In phase 0 of a cell with late groups: gradient of the late operand.
    d_extra : (n_extra * n_units,) array
        Gradient of `extra`, to which the body adds.
    first, n_units : int or None
        As in `Forward`.
    """

    ds: np.ndarray
    previous: np.ndarray
    states: np.ndarray
    saved: np.ndarray
    dz: np.ndarray
    du: np.ndarray
    d_operand: np.ndarray
    extra: np.ndarray
    d_extra: np.ndarray
    scratch: np.ndarray
    first: int | None = None
    n_units: int | None = None


class UnrollableCell:
    """A base of cells' classes of which there is another one for each number of units, a constant of its code.

    Attributes
    ----------
    units : int or None
        That number; None in the class for any number of units.
    """

    __slots__ = ()
    units: int | None = None

    def unrolled(self) -> Any:
        """The same cell, of the class for its number of units."""
        raise NotImplementedError

    def looped(self) -> Any:
        """The same cell, of the class for any number of units."""
        raise NotImplementedError

    @classmethod
    def computes_product(cls, bits: int) -> bool:
        """Whether the body of a step forward computes the recurrent product of float32 or float64 (`bits`) too."""
        return False


@stub
def step_forward(cell, phase, step):
    """Compute one time step.

    Parameters
    ----------
    cell : NamedTuple
        A tuple with `n_units` and the numbers of the cell.
    phase : int
        0; if there are late products, the body is called again with 1 after them.
    step : Forward
    """


@stub
def step_backward(cell, phase, step):
    """Compute the gradient of `step_forward`, phases in the opposite order.

    Parameters
    ----------
    cell : NamedTuple
    phase : int
        1 if there are late products, then 0.
    step : Backward
    """


def unit_range(cell, step):
    """The first unit that a body computes, and the number of units."""
    return (0, cell.n_units) if step.first is None else (step.first, step.n_units)


@body_of(unit_range)
def _unit_range(cell, step):
    # The type says whether all units are computed, so that the compiler knows that the first is 0.
    if step.types[step.fields.index("first")] == types.none:
        return lambda cell, step: (0, cell.n_units)
    return lambda cell, step: (step.first, step.n_units)


def traits(cell: NamedTuple) -> Traits:
    """The traits of `cell`."""
    return cell.traits()  # type: ignore[attr-defined]
