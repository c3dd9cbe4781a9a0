"""Checks of user-defined cells."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.equations import EquationsCell
from fastrnn.engine.equations.oracle import run_on_arrays
from fastrnn.layers.cells import Cell
from fastrnn.layers.recurrent import RNN
from fastrnn.layers.stacked import as_cell

__all__ = ["check_cell"]

#: Rows of the mask that is tried: gaps at the start, in the middle and at the end, and no valid step.
_PATTERNS = ("111111", "111000", "000111", "101101", "011100", "000000")
#: Steps of finite differences. A kink, as relu's, may lie within the first, and hardly ever within the second.
_STEPS = 1e-4, 1e-6


def check_cell(
    cell: Any,
    *,
    n_inputs: int = 3,
    rtol: float = 1e-6,
    max_entries: int = 40,
    gradients: bool = True,
    seed: int = 0,
) -> None:
    """Check that a cell gives the same numbers in all modes, and that its gradients are right.

    The cell is run in float64 with random weights, biases and non-zero initial states. Checked are:

    - values: a cell made by :func:`fastrnn.cells.equations` equals its own function on NumPy arrays;
    - states: a layer of the cell equals the cell called step by step; a sequence in two parts, the second continuing from
      the states of the first, equals the whole sequence;
    - modes: one thread and several, a batch and single sequences give equal numbers, in training and in inference;
    - masks: masked steps at any place do not change states and gradients;
    - gradients of inputs, initial states and weights equal finite differences, with and without a mask;
    - arguments are not overwritten, and repeated calls of `backward` give the same gradients.

    Parameters
    ----------
    cell : cell
        A cell that :class:`fastrnn.layers.RNN` takes: a layer's cell, a cell of equations such as ``MyCell(n_units=5)``,
        or an object with the methods of a Keras cell. The object is not changed. Five units are enough.
    n_inputs : int
        Number of features of the inputs.
    rtol : float
        Largest difference of gradients from finite differences, relative to the largest entry.
    max_entries : int
        Number of entries of each array that are compared with finite differences; larger arrays are sampled at random.
    gradients : bool
        Whether to check gradients as well as values.
    seed : int
        Seed of weights, inputs and states: the same seed checks the same numbers.

    Raises
    ------
    AssertionError
        If a check fails. The message names the values that differ, and likely causes.

    Examples
    --------
    >>> from fastrnn.layers import LSTMCell
    >>> from fastrnn.testing import check_cell
    >>> check_cell(LSTMCell(4))
    """
    _Check(cell, n_inputs, rtol, max_entries, np.random.default_rng(seed)).run(gradients)


def _doubled(cell: Any) -> Any:
    """An unbuilt float64 copy."""
    if isinstance(cell, Cell) and cell.dtype != np.float64:
        return type(cell).from_config({**cell.get_config(), "dtype": "float64"})
    return as_cell(copy.deepcopy(cell), "float64")


@contextmanager
def _always_parallel() -> Iterator[None]:
    """Within the block, run small batches in parallel too."""
    before = tuning.MIN_THREAD_WORK
    tuning.MIN_THREAD_WORK = 0
    try:
        yield
    finally:
        tuning.MIN_THREAD_WORK = before


def _row(b: int) -> Callable[[Any], Any]:
    return lambda a: a[b : b + 1]


def _slope(array: np.ndarray, index: Any, step: float, value: Callable[[], float]) -> float:
    """The derivative of `value` by one entry of `array`, by finite differences of the fourth order."""
    before, samples = array[index], []
    for k in (-2, -1, 1, 2):
        array[index] = before + k * step
        samples.append(value())
    array[index] = before
    return (samples[0] - 8 * samples[1] + 8 * samples[2] - samples[3]) / (12 * step)


class _Check:
    """The checks of one cell. Results of a run are flat lists ``[outputs, *final states]``."""

    def __init__(
        self, cell: Any, n_inputs: int, rtol: float, max_entries: int, rng: np.random.Generator
    ) -> None:
        self.label = repr(cell)
        self.rtol, self.max_entries, self.rng = rtol, max_entries, rng
        try:
            self.cell = _doubled(cell)
        except ValueError as error:
            raise AssertionError(f"{self.label} is not a cell: {error}") from error
        self.layer = RNN(self.cell, return_sequences=True, return_state=True, dtype="float64")
        # Seed the initial weights too, so that the same seed checks the same weights in every process.
        self.layer.set_seed(int(rng.integers(2**31)))
        self.layer.build((None, None, n_inputs))
        weights = [w + rng.normal(size=w.shape) * 0.3 for w in self.layer.get_weights()]
        self.layer.set_weights(weights)
        n_batch = len(_PATTERNS)
        self.x = rng.normal(size=(n_batch, len(_PATTERNS[0]), n_inputs))
        self.mask = np.array([[c == "1" for c in row] for row in _PATTERNS])
        self.initial = self._moved(self.cell.get_initial_state(n_batch))
        self.n_batch = n_batch

    # -- states may be nested, as in stacked cells

    def _moved(self, states: Any) -> list[Any]:
        return [
            self._moved(s) if isinstance(s, (list, tuple)) else s + self.rng.normal(size=np.shape(s)) * 0.5
            for s in states
        ]

    def _flat(self, value: Any) -> list[np.ndarray]:
        return (
            [a for v in value for a in self._flat(v)]
            if isinstance(value, (list, tuple))
            else [np.array(value)]
        )

    def _map(self, value: Any, f: Callable[[Any], Any]) -> Any:
        return [self._map(v, f) for v in value] if isinstance(value, (list, tuple)) else f(value)

    def _fail(self, what: str, hint: str) -> None:
        raise AssertionError(f"{self.label}: {what}. {hint}")

    def _same(self, got: list[Any], expected: list[Any], what: str, hint: str, rtol: float = 1e-10) -> None:
        for k, (a, b) in enumerate(zip(got, expected, strict=True)):
            name = "outputs" if k == 0 else f"state {k - 1}"
            a, b = np.asarray(a), np.asarray(b)
            if a.shape != b.shape:
                self._fail(f"{what}: {name} have shape {a.shape} instead of {b.shape}", hint)
            wrong = ~(np.abs(a - b) <= rtol * (1 + np.abs(b)))
            if wrong.any():
                index = tuple(int(i) for i in np.argwhere(wrong)[0])
                self._fail(
                    f"{what}: {name} differ in {int(wrong.sum())} of {wrong.size} entries, the first at {index}: "
                    f"{a[index]!r} instead of {b[index]!r}",
                    hint,
                )

    def _run(self, x: Any, initial: Any = None, mask: Any = None, training: bool = False) -> list[Any]:
        result: list[Any] = self.layer.forward(x, mask=mask, training=training, initial_state=initial)[0]
        return result

    # -- the checks

    def run(self, gradients: bool) -> None:
        x, initial = self.x, self.initial
        kept = [x.copy(), *(s.copy() for s in self._flat(initial))]
        whole = self._flat(self._run(x, initial))
        for k, a in enumerate(whole):
            if not np.isfinite(a).all():
                self._fail(
                    f"{'outputs' if k == 0 else f'state {k - 1}'} are not finite",
                    "Does the step write all elements?",
                )
        self._check_equations(whole)
        self._check_stepped(whole)
        if gradients:
            self._same(
                self._flat(self._run(x, initial, training=True)),
                whole,
                "training differs from inference",
                "Does the code for `save` change the values?",
            )
        self._check_ways(whole)
        self._check_masks(whole)
        if gradients:
            for mask in (None, self.mask):
                self._check_gradients(mask)
        for before, after in zip(kept, [x, *self._flat(initial)], strict=True):
            if not np.array_equal(before, after):
                self._fail("inputs or initial states were overwritten", "Make new arrays in the step.")

    def _check_equations(self, whole: list[np.ndarray]) -> None:
        """Compare with the user's function on NumPy arrays, which no part of the compiled step goes through."""
        if not (isinstance(self.cell, Cell) and isinstance(self.cell.kernel_cell(), EquationsCell)):
            return
        self._same(
            whole,
            run_on_arrays(self.cell.kernel_cell(), self.cell.kernel_weights(), self.x, self.initial),
            "the compiled cell differs from its equations on NumPy arrays",
            "Does the function depend on anything but its arguments, such as a global variable that has changed?",
        )

    def _check_stepped(self, whole: list[np.ndarray]) -> None:
        states, outputs = self.initial, []
        for t in range(self.x.shape[1]):
            out, states = self.cell(self.x[:, t], states)
            outputs.append(out)
        self._same(
            whole,
            [np.stack(outputs, axis=1), *self._flat(states)],
            "a layer of the cell differs from the cell stepped by hand",
            "Is anything kept from step to step that is not in the states?",
        )

    def _check_ways(self, whole: list[np.ndarray]) -> None:
        x, initial, layer = self.x, self.initial, self.layer
        single = []
        for b in range(self.n_batch):
            start = self._map(initial, _row(b))
            single.append(self._flat(self._run(x[b : b + 1], start)))
        self._same(
            [np.concatenate(rows) for rows in zip(*single, strict=True)],
            whole,
            "sequences one at a time differ from a batch of them",
            "Rows must be independent: is a row's index missing somewhere, or scratch memory shared?",
        )
        at = x.shape[1] // 2
        out, *states = self._run(x[:, :at], initial)
        rest, *final = self._run(x[:, at:], states)
        self._same(
            [np.concatenate([out, rest], axis=1), *self._flat(final)],
            whole,
            "a sequence in two parts differs from the whole one",
            "Is anything kept from step to step that is not in the states?",
        )
        layer.n_threads = 2
        try:
            with _always_parallel():
                self._same(
                    self._flat(self._run(x, initial)),
                    whole,
                    "two threads differ from one",
                    "Does the step write outside its own rows?",
                )
        finally:
            layer.n_threads = None

    def _check_masks(self, whole: list[np.ndarray]) -> None:
        x, initial = self.x, self.initial
        self._same(
            self._flat(self._run(x, initial, np.ones(x.shape[:2], bool))),
            whole,
            "a mask of True differs from no mask",
            "Does the step assume that all rows are present?",
        )
        out, *states = self._run(x, initial, self.mask)
        states = self._flat(states)
        for b, valid in enumerate(self.mask):
            start = self._map(initial, _row(b))
            if valid.any():
                alone, *final = self._run(x[b : b + 1, valid], start)
            else:
                alone, final = out[b : b + 1, :0], start
            self._same(
                [out[b : b + 1, valid], *(s[b : b + 1] for s in states)],
                [alone, *self._flat(final)],
                f"steps masked as {_PATTERNS[b]} differ from a sequence without the masked steps",
                "Masked steps are left out, so rows of a step may come from different times: index by row, not by time.",
            )

    def _check_gradients(self, mask: np.ndarray | None) -> None:
        layer, x = self.layer, self.x
        kind = "" if mask is None else " with a mask"
        results, cache = layer.forward(x, mask=mask, training=True, initial_state=self.initial)
        d_results = self._map(results, lambda a: self.rng.normal(size=np.shape(a)))
        found: list[list[np.ndarray]] = []
        for _ in range(2):
            if found:
                cache = layer.forward(x, mask=mask, training=True, initial_state=self.initial)[1]
            dx = layer.backward([*d_results], cache)
            found.append(
                [dx.copy(), *self._flat(layer.d_initial_state), *(g.copy() for g in layer._grads.values())]
            )
        starts = self._flat(self.initial)
        names = [
            "x",
            *(f"initial state {k}" for k in range(len(starts))),
            *(f"weight {n!r}" for n in layer._weights),
        ]
        for name, a, b in zip(names, *found, strict=True):
            if not np.array_equal(a, b, equal_nan=True):
                self._fail(
                    f"the gradient of {name} differs when computed twice",
                    "Is memory read before it is written? A user's cell adds to grads, which are zero at the start.",
                )
        flat_d = self._flat(d_results)
        states = self._views(starts)

        def value() -> float:
            layer.weights_changed()
            got = self._flat(self._run(x, states, mask))
            return float(sum((r * d).sum() for r, d in zip(got, flat_d, strict=True)))

        arrays = [x, *starts, *layer._weights.values()]
        for name, array, gradient in zip(names, arrays, found[0], strict=True):
            self._compare(name + kind, array, gradient, value)

    def _views(self, starts: list[np.ndarray]) -> list[Any]:
        """The initial states in their nested layout, as views of the arrays of `starts`."""
        given = iter(starts)
        result: list[Any] = self._map(self.initial, lambda _: next(given))
        return result

    def _compare(
        self, name: str, array: np.ndarray, gradient: np.ndarray, value: Callable[[], float]
    ) -> None:
        size = array.size
        chosen = np.arange(size)
        if size > self.max_entries:
            chosen = np.sort(self.rng.choice(size, self.max_entries, replace=False))
        scale = max(1.0, float(np.abs(gradient).max()))
        for at in chosen:
            index = np.unravel_index(at, array.shape)
            for step in _STEPS:
                expected = _slope(array, index, step, value)
                if abs(gradient[index] - expected) <= self.rtol * scale:
                    break
            else:
                where = tuple(int(i) for i in index)
                self._fail(
                    f"the gradient of {name} is wrong, at {where} backward gives {gradient[index]!r}, finite "
                    f"differences {expected!r}",
                    "If an activation has a kink, as relu has, try another seed. Otherwise compare backward with the "
                    "equations term by term: the gradients of the weights, and those of the previous states.",
                )
