"""The forecaster that trains on a dask cluster, whose workers hold the series."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.distributed.cluster import update
from fastrnn.distributed.workers import Workers, default_client
from fastrnn.forecasting import RNNForecaster
from fastrnn.training.data import Batch
from fastrnn.training.step import Trainer
from fastrnn.training.truncation import Piece, cut

__all__ = ["DaskRNNForecaster"]

States = list[Any] | None
"""The states of each recurrent layer after the piece before; None before the first piece."""


# ---- on the workers


class _Share(NamedTuple):
    """What a worker has computed of a piece."""

    loss: float
    """Sum over the steps that count."""
    n_steps: float
    """Their number."""
    gradient: NDArray[Any] | None
    """Of that sum; None if no step counts."""
    states: States


def _hold(_: Any, x: list[NDArray[Any]], y: list[NDArray[Any]]) -> tuple[Any, ...]:
    """Features and targets of some sequences, for the worker that computes them."""
    return x, y, np.array([len(part) for part in x])


def _padded(parts: list[NDArray[Any]], start: int, stop: int) -> NDArray[Any]:
    """Steps `start` to `stop` of some sequences, zeros where they have ended."""
    found = np.zeros((len(parts), stop - start, *parts[0].shape[1:]), parts[0].dtype)
    for row, part in zip(found, parts, strict=True):
        here = part[start:stop]
        row[: len(here)] = here
    return found


class _Pieces:
    """Losses and gradients of the network for pieces of the sequences that a worker holds."""

    def __init__(self, model: Any, held: tuple[Any, ...]) -> None:
        self.model, self.held = model, held

    def __call__(
        self, weights: NDArray[Any], rows: NDArray[Any], steps: tuple[int, int], states: States
    ) -> _Share:
        """What the sequences `rows` contribute to a piece."""
        x, y, lengths = self.held
        mask = np.arange(*steps) < lengths[rows][:, None]
        if not mask.any():
            return _Share(0.0, 0.0, None, states)
        model = self.model
        model.params = weights
        model.bind_weights()
        recurrent = [layer for layer in model.layers if layer.has_states]
        for k, layer in enumerate(recurrent):
            layer.stateful, layer.states = True, None if states is None else states[k]
        inputs, targets = (_padded([values[i] for i in rows], *steps) for values in (x, y))
        batch = Batch(model.layers[0].as_input(inputs), targets, None, None if mask.all() else mask)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            judged = model.trainer.judge(model, batch, training=True)
            model.back(judged.grad, judged.caches, judged.from_logits)
        n_steps = model.loss.batch_weight(targets, judged.y, None, judged.mask)
        grads = model.vectors()[1]
        return _Share(n_steps * judged.loss, n_steps, n_steps * grads, [layer.states for layer in recurrent])


# ---- in the calling process


class _Series(Workers):
    """Sequences on the workers, each on one of them, and the gradients of pieces of batches.

    Parameters
    ----------
    client : distributed.Client
    sequences : tuple of two lists
        Features and targets of each sequence.
    dtype : dtype
    n_jobs : int
        Threads of a task.
    """

    def __init__(self, client: Any, sequences: tuple[list[Any], list[Any]], dtype: Any, n_jobs: int) -> None:
        super().__init__(client, n_jobs)
        n, count = len(sequences[0]), len(self.workers)
        # Long and short ones in turn, so that all workers have about as many steps.
        self.places = np.empty(n, int)
        self.places[np.argsort([-len(x) for x in sequences[0]], kind="stable")] = np.arange(n) % count
        self.numbers = np.empty(n, int)
        self.held = []
        for k in range(count):
            mine = np.flatnonzero(self.places == k)
            self.numbers[mine] = np.arange(len(mine))
            x, y = ([np.asarray(part[i], dtype) for i in mine] for part in sequences)
            with warnings.catch_warnings():
                # A task and not scattered data, which would be lost with their workers.
                warnings.filterwarnings("ignore", message="Sending large graph")
                self.held.append(client.submit(_hold, None, x, y, pure=False))

    def training(self, model: Any) -> Any:
        """A context in which the workers compute gradients of the network."""
        return self.computing(model, _Pieces, self.held)

    def gradient(
        self, weights: NDArray[Any], rows: NDArray[Any], steps: tuple[int, int], states: dict[int, States]
    ) -> tuple[float, NDArray[Any] | None]:
        """Loss and gradient of some steps of the sequences `rows`; `states` are replaced."""
        here = np.unique(self.places[rows]).tolist()
        found: list[_Share] = self.compute(
            {k: (weights, self.numbers[rows[self.places[rows] == k]], steps, states.get(k)) for k in here}
        )
        states.update(zip(here, (share.states for share in found), strict=True))
        n_steps = sum(share.n_steps for share in found)
        grads = [share.gradient for share in found if share.gradient is not None]
        if not grads:
            return 0.0, None
        # In the order of the workers, so that the sum does not depend on which of them is ready first.
        return sum(share.loss for share in found) / n_steps, np.sum(grads, axis=0) / weights.dtype.type(
            n_steps
        )


class _SeriesTrainer(Trainer):
    """A trainer whose gradients come from the workers that hold the series."""

    def __init__(self, local: Trainer, series: _Series, width: int) -> None:
        self.__dict__.update(local.__dict__)
        self._series, self._width = series, width

    def train(self, model: Any, batch: Batch, n_steps: int | None = None) -> float:
        """Make one update from each piece of `n_steps` time steps; return the loss."""
        model.bind_weights()
        total, states = 0.0, dict[int, States]()
        rows = batch.rows
        index = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else np.asarray(rows)
        length = batch.x.shape[1]
        size = n_steps or length
        # Pieces that `cut` leaves out are padding, which is at the end.
        pieces = cut(batch, size) if length > size else [Piece(batch)]
        for k, piece in enumerate(pieces):
            steps = k * size, min((k + 1) * size, length)
            y, mask = piece.batch.y, piece.batch.mask
            outputs = np.zeros((*y.shape[:2], self._width), y.dtype)
            self.objective.resolve(y, outputs)
            loss, gradient = self._series.gradient(model.weight_vector.copy(), index, steps, states)
            if gradient is None:
                continue
            update(self, model, loss, gradient)
            self.objective.add(loss, y, outputs, None, mask)
            total += piece.share * loss
        return total


class DaskRNNForecaster(RNNForecaster):
    """:class:`~fastrnn.forecasting.RNNForecaster` that trains on a dask cluster, whose workers have some series each.

    Parameters and attributes are those of :class:`~fastrnn.forecasting.RNNForecaster`. `n_jobs` is the number of threads of
    each worker's task, by default one; `batch_size` that of the global batch, which all workers share. Features and targets
    are computed in the calling process and sent to the workers once; each update then moves weights, gradients and the
    states between pieces. Weights are those of one process with the same `random_state`, up to rounding. If workers are
    lost, others compute their series; the logger ``fastrnn.distributed`` says so.

    Dropout is refused, as its random numbers would differ: set ``dropout=0``, or give 20 series or more, where it is 0 by
    default.

    Examples
    --------
    >>> import numpy as np
    >>> from distributed import Client, LocalCluster
    >>> from fastrnn.distributed import DaskRNNForecaster
    >>> client = Client(LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"))
    >>> series = [np.sin(np.arange(60) / 3 + k) for k in range(8)]
    >>> forecaster = DaskRNNForecaster(horizon=4, season_length=6, dropout=0, units=4, max_iter=2, random_state=0)
    >>> len(forecaster.fit(series).predict())
    8
    >>> client.shutdown()
    """

    _client: Any = None

    def fit(
        self, y: Any, X: Any = None, static: Any = None, callbacks: Any = None, *, client: Any = None
    ) -> DaskRNNForecaster:
        """Fit to one or many series, as :meth:`fastrnn.forecasting.RNNForecaster.fit` does.

        Parameters
        ----------
        y, X, static, callbacks
            As for :class:`~fastrnn.forecasting.RNNForecaster`.
        client : distributed.Client, optional
            By default the client that was made last.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If dask is not installed.
        ValueError
            If there is no client, or dropout is asked for.
        RuntimeError
            If the cluster has no workers, or has lost all of them for half a minute.
        """
        self._client = default_client(client)
        try:
            super().fit(y, X, static, callbacks)
        finally:
            self.__dict__.pop("_client", None)
        return self

    def _fit_network(
        self, sequences: tuple[list[Any], list[Any]], held_out: Any, epochs: int, callbacks: Any
    ) -> Any:
        if self._client is None:  # partial_fit has a few new steps, for which a cluster is no gain
            return super()._fit_network(sequences, held_out, epochs, callbacks)
        if self.dropout_ or self.recurrent_dropout:
            raise ValueError(
                f"dropout={self.dropout!r} (here {self.dropout_}) and recurrent_dropout={self.recurrent_dropout!r} can't be "
                "used on a cluster: set both to 0, or train with RNNForecaster in one process"
            )
        model = self.model_
        local = model.trainer
        series = _Series(self._client, sequences, self.dtype, self.n_jobs or 1)
        try:
            with series.training(model):
                model.trainer = _SeriesTrainer(local, series, model.layers[-1].units)
                return super()._fit_network(sequences, held_out, epochs, callbacks)
        finally:
            model.trainer = local
