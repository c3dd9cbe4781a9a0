"""A layer of two recurrent layers, which read the sequence forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import choice, flag
from fastrnn.engine import tuning
from fastrnn.engine.recurrence.both_directions import BidirectionalProgram, Direction, prepare_both
from fastrnn.engine.recurrence.plans import slice_count
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.helper import Helper
from fastrnn.layers.arrays import RowLayout, check_mask, check_not_empty
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.cells import Cell
from fastrnn.layers.recurrent import RNN
from fastrnn.layers.wrappers import Wrapper

__all__ = ["Bidirectional"]

MERGE_MODES = ("sum", "mul", "ave", "concat", None)


def _copy_of(layer: Layer, prefix: str, **changes: Any) -> Any:
    """A new layer with the configuration of `layer`, without weights."""
    config = {**layer.get_config(), **changes}
    config["name"] = f"{prefix}_{layer.name.removeprefix(prefix + '_')}"
    return type(layer).from_config(config)


class Bidirectional(Wrapper):
    """Runs a recurrent layer over the sequence and a second one over the reversed sequence, and merges the outputs.

    Both directions are new layers with the configuration of `layer`, which is not used itself. The weights are those of
    the forward layer, then those of the backward layer.

    Inputs have shape ``(batch, time, features)``. With ``merge_mode="concat"`` the output is ``(batch, 2 * units)``, or
    ``(batch, time, 2 * units)`` with ``return_sequences``; with the other modes the last axis has `units` numbers. With
    ``return_sequences`` the outputs of the backward layer are reordered in time before they are merged, and outputs of
    masked steps are zero.

    Parameters
    ----------
    layer : Layer
        A recurrent layer, such as :class:`LSTM`.
    merge_mode : {"concat", "sum", "mul", "ave", None}
        How the two outputs are merged: concatenated, added, multiplied, or averaged. None returns both.
    weights : list of arrays, optional
        Initial weights of both directions.
    backward_layer : Layer, optional
        The layer for the other direction, used itself; its `go_backwards` must be the opposite of that of `layer`. By
        default a new layer with the configuration of `layer`.
    **kwargs
        As for :class:`Layer`.

    References
    ----------
    Schuster, M. & Paliwal, K. (1997). Bidirectional recurrent neural networks. IEEE Transactions on Signal Processing
    45(11), 2673-2681.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.Bidirectional(layers.LSTM(8))(np.ones((4, 5, 2))).shape
    (4, 16)
    """

    input_ndim = 3
    has_states = True
    return_sequences: bool
    reads_both_ways = True

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in (("layer", layer), ("backward_layer", backward_layer)):
            if name == "backward_layer" and value is None:
                continue
            if not isinstance(value, Layer) or value.return_sequences is None or value.reads_both_ways:
                raise ValueError(
                    f"{name}={value!r}: Bidirectional needs a recurrent layer, such as layers.LSTM(8)"
                )
        choice(merge_mode, "merge_mode", MERGE_MODES)
        if weights is not None and not isinstance(weights, (list, tuple)):
            raise ValueError(f"weights={weights!r}: give a list of arrays, the forward layer's first")
        super().__init__(**self._with_dtype(kwargs, layer))
        self.merge_mode = merge_mode
        forward: Any = _copy_of(layer, "forward")
        backward: Any = backward_layer
        if backward is None:
            backward = _copy_of(layer, "backward", go_backwards=True)
        self._verify(forward, backward)
        for child in (forward, backward):
            child.zero_output_for_mask = child.return_sequences
        self._own_backward = backward_layer is not None
        # The configuration has the name of the given layer, not that of the forward layer.
        self._given_name = layer.name
        self._initial_weights = None if not weights else list(weights)
        self.stateful, self.return_sequences = forward.stateful, forward.return_sequences
        self.return_state = forward.return_state
        #: Gradient with respect to the initial states (forward, then backward) from the last `backward`.
        self.d_initial_state: list[np.ndarray] | None = None
        self._ready: tuple[tuple[Any, ...], BidirectionalProgram | None] | None = None
        self._hold(forward=forward, backward=backward)
        self._check_widths()

    @staticmethod
    def _verify(forward: Any, backward: Any) -> None:
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(
                f"layer and backward_layer have the same go_backwards={backward.go_backwards}: "
                "they must read in opposite directions"
            )
        for name, ours, theirs in (
            ("stateful", forward.stateful, backward.stateful),
            ("return_sequences", forward.return_sequences, backward.return_sequences),
            ("return_state", forward.return_state, backward.return_state),
        ):
            if ours != theirs:
                raise ValueError(
                    f"layer has {name}={ours}, backward_layer has {name}={theirs}: give both the same"
                )

    @property
    def forward_layer(self) -> Any:
        """The layer that reads in the direction of `layer`."""
        return self._children["forward"]

    @property
    def backward_layer(self) -> Any:
        """The layer that reads in the opposite direction."""
        return self._children["backward"]

    @property
    def layer(self) -> Any:
        """The forward layer."""
        return self.forward_layer

    @property
    def states(self) -> list[np.ndarray] | None:  # type: ignore[override]
        """States of a stateful layer after the last call (forward, then backward), or None."""
        parts = [child.states for child in self._children.values()]  # type: ignore[attr-defined]
        return None if any(part is None for part in parts) else [s for part in parts for s in part]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["weights"]
        if isinstance(config["layer"], dict):
            config["layer"]["config"]["name"] = self._given_name
        if not self._own_backward:
            del config["backward_layer"]
        return config

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if not self.built:  # the directions have the same shape as this layer
            for child in self._children.values():
                child._check_shape(shape)

    def build(self, input_shape: Shape) -> None:
        for child in self._children.values():
            child.ensure_built(input_shape)
        if self._initial_weights is not None:
            half = len(self.forward_layer._weights)
            parts = (self._initial_weights[:half], self._initial_weights[half:])
            for child, part in zip(self._children.values(), parts, strict=True):
                child._as_weights(part)
            for child, part in zip(self._children.values(), parts, strict=True):
                child.set_weights(part)
            self._initial_weights = None
        self._adopt()
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Any:
        ours = self.forward_layer.compute_output_shape(input_shape)
        theirs = self.backward_layer.compute_output_shape(input_shape)
        states: list[Shape] = []
        if self.return_state:
            (ours, *states), (theirs, *more) = ours, theirs
            states = [*states, *more]
        outputs = [ours, theirs]
        if self.merge_mode == "concat":
            outputs = [(*ours[:-1], ours[-1] + theirs[-1])]
        elif self.merge_mode is not None:
            outputs = [ours]
        return [*outputs, *states] if states or len(outputs) > 1 else outputs[0]

    def compute_mask(self, x: Any, mask: np.ndarray | None = None) -> np.ndarray | None:
        out = mask if self.return_sequences else None
        return out if self.merge_mode is not None else [out, out]  # type: ignore[return-value]

    # -- passes

    def _split_states(self, initial_state: Any) -> tuple[Any, Any]:
        if initial_state is None:
            return None, None
        given = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        sizes = [child.state_size for child in (self.forward_layer, self.backward_layer)]
        half, rest = (len(s) if isinstance(s, (list, tuple)) else 1 for s in sizes)
        if len(given) != half + rest:
            raise ValueError(
                f"initial_state has {len(given)} arrays: give the forward layer's states ({half}), then the backward "
                f"layer's ({rest})"
            )
        return given[:half], given[half:]

    def _check_call(self, x: Any, mask: Any, initial_state: Any = None) -> None:
        super()._check_call(x, mask)
        for child, states in zip(self._children.values(), self._split_states(initial_state), strict=True):
            child._check_call(x, mask, states)

    def _both(self, x: np.ndarray, forward: Callable[[], Any], backward: Callable[[], Any]) -> list[Any]:
        """Results of both directions, computed in two threads if one direction can't use several."""
        child, (n_batch, n_steps, n_inputs) = self.forward_layer, x.shape
        work = n_batch * n_steps * sum(w.size for w in child._weights.values())
        if n_batch > 1 or work < tuning.MIN_DIRECTION_WORK or threads.resolve(self.n_threads) < 2:
            return [forward(), backward()]
        sizes = n_batch, n_steps, n_inputs, self.n_threads
        if (
            isinstance(child, RNN)
            and isinstance(child.cell, Cell)
            and slice_count(child.cell.kernel_cell(), *sizes) > 1
        ):
            return [forward(), backward()]
        helper = Helper(backward)
        helper.start()
        try:
            ours = forward()
            helper.wait()
        except BaseException:
            helper.finish()
            raise
        if helper.error is not None:
            raise helper.error
        return [ours, helper.result]

    def _prepare(self, shape: tuple[int, ...]) -> BidirectionalProgram | None:
        """A program of both directions for inputs of this shape; None if a direction is not a layer of the engine."""
        children: list[Any] = list(self._children.values())
        for child in children:
            if (
                not (isinstance(child, RNN) and isinstance(child.cell, Cell))
                or type(child).forward is not RNN.forward
                or child.activity_regularizer is not None
                or shape[2] != len(child._weights["kernel"])
            ):
                return None
        if 0 in shape or (self.merge_mode is None and children[0].cell.units != children[1].cell.units):
            return None
        directions = []
        for child in children:
            cell = child.cell
            directions.append(
                Direction(cell.kernel_cell(child.unroll), cell.packed_weights()[1], child.go_backwards)
            )
        return prepare_both(
            directions,
            shape,
            sequences=self.return_sequences,
            merge=self.merge_mode,
            n_threads=self.n_threads,
        )

    def _run_prepared(self, x: np.ndarray, mask: Any) -> Any:
        """The output of the program prepared for this shape and these weights; None if there is none."""
        ours, theirs = self._children.values()
        key = ours.weights_version, theirs.weights_version, x.shape, self._n_threads
        ready = self._ready
        if ready is None or ready[0] != key:
            ready = self._ready = key, self._prepare(x.shape)
        pair = ready[1]
        if pair is None:
            return None
        if not x.flags.c_contiguous or x.dtype != self._dtype:
            return None
        if mask is None:
            return pair(x)
        return pair.masked(x, check_mask(mask, x.shape)) if pair.takes_masks else None

    def forward(
        self, x: Any, mask: np.ndarray | None = None, training: bool = False, initial_state: Any = None
    ) -> tuple[Any, Any]:  # type: ignore[override]
        if initial_state is None and not (training or self.stateful or self.return_state):
            y = self._run_prepared(x, mask)
            if y is not None:
                return y, None
        check_not_empty(self, x.shape)
        if initial_state is not None or (mask is not None and self.stateful):
            # Check both directions first: if one fails, the other must not have new states.
            self._check_call(x, mask, initial_state)
        ours, theirs = self._split_states(initial_state)
        self._penalties.clear()
        results = self._both(
            x,
            lambda: self._run(self.forward_layer, x, mask, training, initial_state=ours),
            lambda: self._run(self.backward_layer, x, mask, training, initial_state=theirs),
        )
        (y, cache), (y_back, cache_back) = results
        states: list[np.ndarray] = []
        if self.return_state:
            (y, *states), (y_back, *more) = y, y_back
            states = [*states, *more]
        if self.return_sequences:
            y_back = y_back[:, ::-1]
        widths = (y.shape[-1], y_back.shape[-1])
        outputs = self._merge(y, y_back)
        kept = (y, y_back) if self.merge_mode == "mul" else None
        out = [*outputs, *states] if states or len(outputs) > 1 else outputs[0]
        return out, (cache, cache_back, widths, kept, x) if training else None

    def _check_widths(self) -> None:
        if self.merge_mode in ("concat", None):
            return
        ours, theirs = (child.compute_output_shape((None, None, 1)) for child in self._children.values())
        if self.return_state:
            ours, theirs = ours[0], theirs[0]
        if ours != theirs:
            raise ValueError(
                f"merge_mode={self.merge_mode!r} needs outputs of one size, layer gives {ours[-1]} and backward_layer "
                f"{theirs[-1]}: use 'concat' or None"
            )

    def _merge(self, y: np.ndarray, y_back: np.ndarray) -> list[np.ndarray]:
        if self.merge_mode is None:
            return [y, y_back]
        width = y.shape[-1] + (y_back.shape[-1] if self.merge_mode == "concat" else 0)
        if RowLayout(y).time_major:
            n_batch, n_steps = y.shape[:2]
            out = np.empty((n_steps, n_batch, width), y.dtype).swapaxes(0, 1)
        else:
            out = np.empty((*y.shape[:-1], width), y.dtype)
        if self.merge_mode == "concat":
            out[..., : y.shape[-1]], out[..., y.shape[-1] :] = y, y_back
        elif self.merge_mode == "mul":
            np.multiply(y, y_back, out=out)
        else:
            np.add(y, y_back, out=out)
            if self.merge_mode == "ave":
                out *= out.dtype.type(0.5)
        return [out]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ready": None}

    def backward(self, dy: Any, cache: Any, need_dx: bool = True) -> Any:
        if cache is None:
            raise ValueError(
                f"layer {self.name!r}: only a forward pass with training=True can be differentiated"
            )
        ours, theirs, (width, _), kept, x = cache
        states: list[Any] = []
        if self.merge_mode is None:
            d, d_back, *states = dy
        else:
            if self.return_state:
                dy, *states = dy
            d = d_back = dy
            if dy is None:
                pass
            elif self.merge_mode == "concat":
                d, d_back = dy[..., :width], dy[..., width:]
            elif self.merge_mode == "mul":
                d, d_back = dy * kept[1], dy * kept[0]
            elif self.merge_mode == "ave":
                d = d_back = dy * dy.dtype.type(0.5)
        if self.return_sequences and d_back is not None:
            d_back = d_back[:, ::-1]
        if self.return_state:
            half = len(states) // 2
            d, d_back = [d, *states[:half]], [d_back, *states[half:]]
        dx, dx_back = self._both(
            x,
            lambda: self._back(self.forward_layer, d, ours, need_dx),
            lambda: self._back(self.backward_layer, d_back, theirs, need_dx),
        )
        found = [self.forward_layer.d_initial_state, self.backward_layer.d_initial_state]
        self.d_initial_state = None if any(part is None for part in found) else [*found[0], *found[1]]
        if not need_dx:
            return None
        dx += dx_back
        return dx

    def __call__(self, x: Any, mask: Any = None, initial_state: Any = None, training: bool = False) -> Any:  # type: ignore[override]
        """Compute the outputs for ``x (batch, time, features)``; the first call creates the weights.

        Parameters
        ----------
        x : array_like of shape (batch, time, features)
        mask : array of bool of shape (batch, time), optional
        initial_state : list of arrays of shape (batch, units), optional
            The forward layer's states, then the backward layer's.
        training : bool
            Whether to apply dropout.

        Returns
        -------
        ndarray, or with `return_state` or ``merge_mode=None`` a list of ndarray
            Output (or both outputs), then the forward layer's states, then the backward layer's.
        """
        x = self.as_input(x)
        training = flag(training, "training")
        if not self.built:
            self._check_call(x, mask, initial_state)
        self.ensure_built((None, *x.shape[1:]))
        return self.forward(x, mask=mask, training=training, initial_state=initial_state)[0]
