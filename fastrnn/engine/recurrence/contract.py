"""What a cell is: a NamedTuple of numbers, a description of its parts, and two pointwise bodies.

The engine does everything that is the same for all cells: input products, recurrent products, dropout masks, time
loops, threads, weight gradients. A cell adds what happens between the products::

    z   = b + x @ W              (n_gates * n_units columns; the engine, before the step)
    z  += h_prev @ U             (the engine; into `hu = b_rec + h_prev @ U` instead, where `split`)
    states = step_forward(z, hu, previous states)
    dz, du, d(previous states) = step_backward(d(states), saved values)
    d(h_prev) += du @ U.T        (the engine)

The bodies get these arrays as one record, a `Forward` or a `Backward`, and write their results into it.

Recurrent columns can be cut into equal *groups*, one product each. The last `late` groups take a left operand that
the step itself computes, as ``r * h_prev`` in a GRU with ``reset_after=False``: such a cell is called in two phases,
before and after those products (in the opposite order on the way back).

A field with the code of an activation has a name that ends in ``activation``: by that the engine knows what to compile
before a call.

The rows of a step are independent: several threads may compute some of them each (see `split_step`), with a `scratch` of
their own. Only `d_extra` is a sum over all rows, so the backward body of a cell that has it gets all of them at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.runtime.jit import stub

__all__ = ["Backward", "Forward", "Traits", "UnrollableCell", "step_backward", "step_forward", "traits"]


class Traits(NamedTuple):
    """The parts of a cell, all in units of `n_units` columns.

    Attributes
    ----------
    n_gates : int
        Columns of ``z``, of the kernel, the recurrent kernel and the bias.
    n_states : int
        State arrays, the output first.
    n_saved : int
        Columns that `step_forward` keeps for `step_backward`.
    split : bool
        The recurrent product has its own bias and columns ``hu``, and its own gradient ``du``.
    recurrent : bool
        There is a recurrent kernel at all.
    late : int
        Of the gates' groups, how many (the last ones) take a left operand made by phase 0.
    operand : int
        Where in the saved columns phase 0 keeps that operand.
    n_extra : int
        Further parameters (peepholes, a recurrent vector), as ``n_extra * n_units`` numbers.
    """

    n_gates: int
    n_states: int = 1
    n_saved: int = 0
    split: bool = False
    recurrent: bool = True
    late: int = 0
    operand: int = 0
    n_extra: int = 0


class Forward(NamedTuple):
    """One time step of some rows.

    Attributes
    ----------
    z : (n, n_gates * n_units) array
        Pre-activations; may be overwritten.
    hu : (n, n_gates * n_units) array
        The recurrent product, where the cell is `split`.
    previous : (n_states, n, n_units) array
        The states before the step; only read.
    states : (n_states, n, n_units) array
        The states after it, to be written.
    saved : (n, n_saved * n_units) array
        For `step_backward`, to be written if `save` is not 0; otherwise it has no elements.
    operand : (n, n_units) array
        Left operand of the late products, to be written in phase 0.
    extra : (n_extra * n_units,) array
        Further parameters.
    scratch : (n_gates + 4, n_units) array
        Free for the body.
    save : int
        Whether `saved` is to be written.
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


class Backward(NamedTuple):
    """The gradient of one time step of some rows; arrays that `Forward` has are only read.

    Attributes
    ----------
    ds : (n_states, n, n_units) array
        On entry the gradient with respect to the new states, on return that with respect to the previous ones, but for
        the part that goes through the recurrent products, which the engine adds.
    previous, states, saved, extra, scratch
        As in `Forward`.
    dz, du : (n, n_gates * n_units) arrays
        Gradients of the input columns and of the recurrent columns, to be written; the same array unless the cell is
        `split`.
    d_operand : (n, n_units) array
        In phase 0 of a cell with late groups: gradient of the late operand.
    d_extra : (n_extra * n_units,) array
        Gradient of `extra`, to be added to.
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


@stub
def step_forward(cell, phase, step):
    """Compute one time step.

    Parameters
    ----------
    cell : NamedTuple
        Has `n_units` and whatever numbers the cell needs.
    phase : int
        0, and 1 once more after the late products.
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


def traits(cell: NamedTuple) -> Traits:
    """The parts of `cell`."""
    return cell.traits()  # type: ignore[attr-defined]
