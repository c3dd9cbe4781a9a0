"""What a cell is: a NamedTuple of numbers, a description of its parts, and two pointwise bodies.

The engine does everything that is the same for all cells: input products, recurrent products, dropout masks, time
loops, threads, weight gradients. A cell adds what happens between the products::

    z   = b + x @ W              (n_gates * n_units columns; the engine, before the step)
    z  += h_prev @ U             (the engine; into `hu = b_rec + h_prev @ U` instead, where `split`)
    h, ... = step_forward(z, hu, previous states)
    dz, du, d(previous states) = step_backward(d(states), saved values)
    d(h_prev) += du @ U.T        (the engine)

Recurrent columns can be cut into equal *groups*, one product each. The last `late` groups take a left operand that
the step itself computes, as ``r * h_prev`` in a GRU with ``reset_after=False``: such a cell is called in two phases,
before and after those products (in the opposite order on the way back).

Rows of a step know nothing of one another: threads may have some of them each (see `shares`), with a `scratch` of their
own. Only `d_extra` is added to by all rows, so a cell that has it is called for all of them at once on the way back.
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine.runtime.jit import stub

__all__ = ["Traits", "step_backward", "step_forward", "traits"]


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


@stub
def step_forward(cell, phase, n, z, pz, hu, states, prev, new, extra, saved, ps, save, operand, scratch):
    """One time step of `n` rows.

    Parameters
    ----------
    cell : NamedTuple
        Has `n_units` and whatever numbers the cell needs.
    phase : int
        0, and 1 once more after the late products.
    z : (rows, n_gates * n_units) array
        Rows ``pz ... pz + n`` hold the pre-activations; they may be overwritten.
    hu : (n, n_gates * n_units) array
        The recurrent product, where the cell is `split`.
    states : (n_states, rows, n_units) array
        Rows ``prev ...`` are read, rows ``new ...`` written.
    extra : (n_extra * n_units,) array
    saved : (rows, n_saved * n_units) array
        Rows ``ps ...``, written if `save` is not 0.
    operand : (n, n_units) array
        Left operand of the late products, written in phase 0.
    scratch : (n_gates + 4, n_units) array
        Free for the body.
    """


@stub
def step_backward(
    cell, phase, n, ds, states, prev, new, extra, saved, ps, dz, pz, du, pu, d_operand, d_extra, scratch
):
    """The gradient of `step_forward`, phases in the opposite order.

    Parameters
    ----------
    ds : (n_states, n, n_units) array
        On entry the gradient with respect to the new states, on return that with respect to the previous ones, but for
        the part that goes through the recurrent products, which the engine adds.
    dz, du : (rows, n_gates * n_units) arrays
        Gradients of the input columns (rows ``pz ...``) and of the recurrent columns (rows ``pu ...``); the same array
        unless the cell is `split`.
    d_operand : (n, n_units) array
        In phase 0 of a cell with late groups: gradient of the late operand.
    d_extra : (n_extra * n_units,) array
        Gradient of `extra`, to be added to.
    """


def traits(cell: NamedTuple) -> Traits:
    """The parts of `cell`."""
    return cell.traits()  # type: ignore[attr-defined]
