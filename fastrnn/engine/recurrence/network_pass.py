"""Training passes of a small network, forward and backward, as two lists of kernel calls in fixed memory.

The kernels and their order are those of the layers' own passes, so losses and gradients are bitwise the same. What is saved
is the time that Python takes between the kernels, for a single time step of 32 units six times as long as they take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.losses import n_loss_pieces, squared_error_piece
from fastrnn.engine.kernels.matmul import matmul_into, packed_size
from fastrnn.engine.kernels.packing import PackedRows, pack_piece
from fastrnn.engine.recurrence.backward import BackwardArguments
from fastrnn.engine.recurrence.call_list import Call, bind, run_calls, share_calls, words_of
from fastrnn.engine.recurrence.forward import ForwardArguments
from fastrnn.engine.recurrence.kernels import backward_part, forward_part
from fastrnn.engine.recurrence.lane_plans import back_plan
from fastrnn.engine.recurrence.rows import needed_backward, needed_forward, sum_piece
from fastrnn.engine.recurrence.training_pass import CellPass
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.linking import address, fetch
from fastrnn.engine.runtime.memory import aligned, nothing
from fastrnn.engine.runtime.views import copy, part

__all__ = ["DensePass", "NetworkPass"]


@jit(inner=True, few_passes=True)
def _product(arguments, at, k):
    """A product of matrices, as `matmul` computes it."""
    a, a_transposed, b, b_transposed, start, out, packed = fetch(arguments, at)
    matmul_into(a, a_transposed != 0, b, b_transposed != 0, start, out, packed)


@jit(inner=True)
def _take(arguments, at, k):
    """Copy the first elements of a row."""
    rows, first, target = fetch(arguments, at)
    copy(part(rows, 0, first, target.shape[0]), target)


@jit(inner=True)
def _few_errors(arguments, at, k):
    """The errors of few predictions, and the gradient, which is ``factor[0, 0]`` times them."""
    true, pred, factor, grad, errors = fetch(arguments, at)
    n, m, size = pred.shape
    for i in range(n):
        for j in range(m):
            for x in range(size):
                error = pred[i, j, x] - true[i, j, x]
                errors[i, j, x] = error
                grad[i, j, x] = factor[0, 0] * error


_product_call = address(_product)
_take_call = address(_take)
_few_errors_call = address(_few_errors)


class DensePass(NamedTuple):
    """A dense layer without its activation: views of its weights and of their gradients; no bias is None."""

    kernel: np.ndarray
    bias: np.ndarray | None
    d_kernel: np.ndarray
    d_bias: np.ndarray | None


class _Bound(NamedTuple):
    """The calls of one layer, and the memory that they read and write.

    Attributes
    ----------
    forward, backward : list of Call
    out, d_out : (rows, n) arrays
        The outputs, and their gradient, which is to be written before the backward calls.
    d_start : list of arrays, or None
        Gradients of the initial states.
    """

    forward: list[Call]
    backward: list[Call]
    out: np.ndarray
    d_out: np.ndarray
    d_start: list[np.ndarray] | None = None


def _bound_cell(of: CellPass, rows: np.ndarray, dx: np.ndarray | None) -> _Bound:
    """The calls of a cell. Its outputs are the time-major rows of all steps, or those of the last one."""
    (plan, weights, targets), dtype = of, rows.dtype
    n_threads = plan.blocks.n_threads
    n_batch, n_steps, sequences = plan.options.n_batch, plan.options.n_steps, plan.options.sequences
    back = back_plan(plan, dx is not None, sequences)
    final, d_final = aligned(plan.final_shape, dtype), aligned(plan.final_shape, dtype, zeros=True)
    states, packed = aligned(plan.states_shape, dtype), aligned(plan.packed.shape, dtype)
    packed_back, grads = aligned(back.packed.shape, dtype), aligned(back.grads_shape, dtype)
    d_start = np.empty(plan.final_shape, dtype)
    d_out = aligned((n_steps * n_batch, plan.cell.n_units), dtype) if sequences else nothing(dtype, 2)
    forward = ForwardArguments(
        team=None,
        cell=plan.kernel_cell,
        settings=plan.settings,
        schedule=plan.schedule,
        x=rows,
        state0=np.zeros(plan.final_shape, dtype),
        packed=packed,
        masks=nothing(dtype, 1),
        states=states,
        saved=aligned(plan.saved_shape, dtype),
        out=aligned(plan.out_shape, dtype) if sequences and plan.n_lanes else nothing(dtype, 2),
        final=final,
        work=aligned(plan.work_shape, dtype),
        borders=plan.blocks.borders,
        firsts=plan.blocks.firsts,
    )
    backward = BackwardArguments(
        team=None,
        cell=plan.kernel_cell,
        settings=back.settings,
        schedule=plan.schedule,
        x=rows,
        packed=packed_back,
        masks=forward.masks,
        states=states,
        saved=forward.saved,
        d_out=d_out,
        d_final=d_final,
        dx=nothing(dtype, 2) if dx is None else dx,
        d_state0=d_start,
        grads=grads,
        work=aligned(back.work_shape, dtype),
        borders=plan.blocks.borders,
        firsts=plan.blocks.firsts,
    )
    size, ends = dtype.itemsize, (0, *back.pieces)
    needed = (
        needed_forward(True, sequences, False),
        needed_backward(True, sequences, dx is not None and not plan.n_lanes, False, False),
    )
    summed = []
    if n_threads > 1:
        slices = n_threads if grads.shape[1] >= tuning.MIN_SHARED_SUM else 1
        summed.append(bind(sum_piece, grads, slices, pieces=slices))
    return _Bound(
        [
            _pack(weights, plan.packed, packed),
            bind(forward_part(plan), *forward, pieces=n_threads, needed=needed[0], item_size=size),
        ],
        [
            _pack(weights, back.packed, packed_back),
            bind(backward_part(plan), *backward, pieces=n_threads, needed=needed[1], item_size=size),
            *summed,
            *(bind(_take_call, grads, int(ends[first]), target) for first, target in targets),
        ],
        final[0] if not sequences else forward.out if plan.n_lanes else states[0, n_batch:],
        d_out if sequences else d_final[0],
        list(d_start),
    )


def _pack(weights: tuple[np.ndarray, ...], how: PackedRows, rows: np.ndarray) -> Call:
    layout, shape, n_slices = how
    return bind(pack_piece, weights, layout, rows, n_slices, pieces=shape[0] * n_slices)


def _bound_dense(layer: DensePass, rows: np.ndarray, dx: np.ndarray | None) -> _Bound:
    """The calls of a dense layer, but for the gradient of its bias."""
    kernel, bias, d_kernel, _ = layer
    dtype, n, (n_inputs, units) = rows.dtype, len(rows), kernel.shape
    out, d_out = np.empty((n, units), dtype), np.empty((n, units), dtype)
    none, start = np.empty((0, units), dtype), np.empty((0, n_inputs), dtype)
    no_panel = nothing(dtype, 1)
    given = none if bias is None else bias.reshape(1, units)
    backward = [bind(_product_call, rows, 1, d_out, 0, none, d_kernel, no_panel)]
    if dx is not None:
        panel = np.empty(packed_size(units, n_inputs, dtype), dtype)
        backward.append(bind(_product_call, d_out, 0, kernel, 1, start, dx, panel))
    return _Bound([bind(_product_call, rows, 0, kernel, 0, given, out, no_panel)], backward, out, d_out)


class SquaredErrorCall:
    """The squared error and its gradient as a call in fixed memory, with the numbers of `MeanSquaredError`.

    That computes few errors by NumPy, so here they are kept, and the loss is computed by NumPy as well.

    Parameters
    ----------
    true, pred, grad : (n_batch, [n_steps,] n_outputs) arrays
        Of one memory order.

    Attributes
    ----------
    call : Call
    """

    def __init__(self, true: np.ndarray, pred: np.ndarray, grad: np.ndarray) -> None:
        dtype, self._size = pred.dtype, pred.shape[-1]
        self._factor = np.ones((1, 1), dtype)
        self._errors: np.ndarray | None = None
        time_major = not pred.flags.c_contiguous
        arrays = [
            a.reshape((1,) * (3 - a.ndim) + a.shape) if a.ndim < 3 else a.swapaxes(0, 1) if time_major else a
            for a in (true, pred, grad)
        ]
        given = arrays[0], arrays[1], self._factor, arrays[2]
        if pred.size < tuning.MIN_LOSS_KERNEL:
            self._errors = np.empty(pred.shape, dtype)
            errors = self._errors.swapaxes(0, 1) if time_major else self._errors.reshape(arrays[0].shape)
            self.call = bind(_few_errors_call, *given, errors)
        else:
            n_pieces = n_loss_pieces(arrays[1])
            self._sums = np.zeros(n_pieces)
            self.call = bind(squared_error_piece, *given, self._sums, pieces=n_pieces)

    def set_factor(self, factor: float) -> None:
        """Set the factor of the items' losses, the means over the outputs."""
        self._share = factor / self._size
        self._factor[0, 0] = factor if self._errors is None else 2 * self._share

    def loss(self) -> float:
        """The loss, after the call."""
        if self._errors is None:
            return float(self._sums[0] if len(self._sums) == 1 else self._sums.sum())
        return self._share * float(np.vdot(self._errors, self._errors))


class NetworkPass:
    """The training passes of recurrent layers and the dense layers after them, for inputs of one shape.

    Parameters
    ----------
    layers : sequence of CellPass or DensePass
        Of successive layers. All but the last recurrent layer return the outputs of all steps. Only the first reads rows
        that are not time-major.
    shape : tuple
        ``(n_batch, n_steps, n_inputs)``.
    dtype : dtype

    Attributes
    ----------
    x : (n_batch, n_steps, n_inputs) array
        The inputs, to be written before :meth:`forward`.
    y, dy, true : (n_batch, [n_steps,] n_outputs) arrays
        The outputs; their gradient, to be written before :meth:`backward`; the targets, to be written before :meth:`both`.
    error : SquaredErrorCall
        Its factor is to be set before :meth:`both`.
    d_starts : list
        For each layer the gradients of the initial states as a list, or None.
    """

    def __init__(
        self, layers: list[CellPass | DensePass], shape: tuple[int, int, int], dtype: np.dtype
    ) -> None:
        n_batch, n_steps, n_inputs = shape
        self.x = aligned(shape, dtype)
        rows: np.ndarray = self.x.reshape(n_batch * n_steps, n_inputs)
        bound: list[_Bound] = []
        for layer in layers:
            dx = bound[-1].d_out if bound else None
            if isinstance(layer, CellPass):
                bound.append(_bound_cell(layer, rows, dx))
            else:
                bound.append(_bound_dense(layer, rows, dx))
            rows = bound[-1].out
        d_rows = bound[-1].d_out
        self.d_starts = [b.d_start for b in bound]
        self._biases = [
            (b.d_out, layer.d_bias)
            for layer, b in zip(layers, bound, strict=True)
            if isinstance(layer, DensePass) and layer.d_bias is not None
        ]
        true = np.zeros_like(rows)
        steps = [layer.plan.options.sequences for layer in layers if isinstance(layer, CellPass)]
        self.y, self.dy, self.true = (
            _sequences(r, n_batch) if steps[-1] else r for r in (rows, d_rows, true)
        )
        self.error = SquaredErrorCall(self.true, self.y, self.dy)
        forward = [call for b in bound for call in b.forward]
        backward = [call for b in reversed(bound) for call in b.backward]
        self._calls = [*forward, self.error.call, *backward]  # they keep the memory
        self._forward, self._backward, self._both = map(words_of, (forward, backward, self._calls))
        blocks = [layer.plan.blocks for layer in layers if isinstance(layer, CellPass)]
        self._threads, self._light = max(b.n_threads for b in blocks), all(b.light for b in blocks)

    def forward(self) -> None:
        """Compute `y` from `x`."""
        self._run(self._forward)

    def backward(self) -> None:
        """Write the gradients of all weights from `dy`, after `forward`."""
        self._run(self._backward)
        self._sum_biases()

    def both(self) -> float:
        """Write the gradients of all weights for the squared error of `true`; return the loss."""
        self._run(self._both)
        self._sum_biases()
        return self.error.loss()

    def _run(self, words: np.ndarray) -> None:
        if self._threads == 1:
            run_calls(words)
        else:
            share_calls(words, self._threads, self._light)

    def _sum_biases(self) -> None:
        for d_out, d_bias in self._biases:
            np.add.reduce(d_out, axis=0, out=d_bias)


def _sequences(rows: np.ndarray, n_batch: int) -> np.ndarray:
    """Time-major rows as an array ``(n_batch, n_steps, n)``."""
    return rows.reshape(-1, n_batch, rows.shape[1]).transpose(1, 0, 2)
