"""A model: a network with a trainer, and Keras's methods to train, evaluate and predict with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import optimizers
from fastrnn.checks import as_array, flag, integer, real_array
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.layers.arrays import check_mask
from fastrnn.models.base import Network
from fastrnn.sequences.ragged import Ragged
from fastrnn.sequences.stateful import StatefulBatches
from fastrnn.training.callback import CallbackList, History, check_callbacks
from fastrnn.training.checks import (
    check_class_weight,
    check_data,
    check_schedule_of_fit,
    check_stateful,
    check_verbose,
    check_weights,
)
from fastrnn.training.data import Batch, Batches, class_weights, is_stream, training_data, whole
from fastrnn.training.guard import guard, states
from fastrnn.training.loop import Schedule, Task, evaluate, predict, run_epochs
from fastrnn.training.objective import Objective, by_position
from fastrnn.training.progress import Progress, shown
from fastrnn.training.step import HELP, Trainer
from fastrnn.training.truncation import check_pieces

__all__ = ["Model"]


class Model(Network):
    """A network that has a trainer.

    Parameters
    ----------
    trainable : bool
        Whether training changes any weights at all.
    name : str, optional
        By default the class name in snake case.
    seed : int or SeedSequence, optional
        Seed of initial weights, dropout and the order of samples; by default from the global seed, see
        :func:`fastrnn.set_random_seed`.

    Attributes
    ----------
    trainer : Trainer
        Has optimizer, loss and metrics, set by :meth:`compile`, and makes updates from batches.

    Examples
    --------
    >>> from fastrnn import EncoderDecoder, Sequential
    >>> from fastrnn.models import Model
    >>> issubclass(Sequential, Model), issubclass(EncoderDecoder, Model)
    (True, True)
    """

    def __init__(
        self,
        trainable: bool = True,
        name: str | None = None,
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        super().__init__(trainable, name, seed)
        self.trainer = Trainer()

    # -- attributes of the trainer

    @property
    def optimizer(self) -> Any:
        """The optimizer, None before :meth:`compile`."""
        return self.trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        self.trainer.optimizer = value

    @property
    def loss(self) -> Any:
        """The loss, None before :meth:`compile`."""
        return self.trainer.objective.loss

    @loss.setter
    def loss(self, value: Any) -> None:
        self.trainer.objective.loss = value

    @property
    def history(self) -> History | None:
        """The History of the last :meth:`fit`."""
        return self.trainer.history

    @history.setter
    def history(self, value: History | None) -> None:
        self.trainer.history = value

    @property
    def stop_training(self) -> bool:
        """Callbacks set it to True to end training after the current batch."""
        return self.trainer.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self.trainer.stop_training = value

    @property
    def metrics_names(self) -> list[str]:
        """Names of loss and metrics, in the order of the result of :meth:`evaluate`."""
        return self.trainer.objective.names

    def reset_metrics(self) -> None:
        """Reset the running means of loss and metrics."""
        self.trainer.objective.reset()

    @property
    def _updates_rows(self) -> bool:
        return self.optimizer is not None and self.optimizer.updates_rows

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: float | None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Set optimizer, loss and metrics.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss
            ``"crossentropy"`` chooses the kind that fits targets and outputs.
        loss_weights : float, optional
            Factor of the loss.
        metrics, weighted_metrics : list of str or Metric, optional
            `weighted_metrics` take sample weights into account.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Arguments of Keras without effect.
        """
        if optimizer is None:
            raise ValueError("optimizer=None: give a name, such as 'adam', or an object")
        optimizer = optimizers.get(optimizer)
        objective = Objective(loss, loss_weights, metrics, weighted_metrics)
        optimizer.claim(self)
        self.trainer.objective = objective
        self.trainer.optimizer, self.trainer.stop_training = optimizer, False
        self.plan_updates()

    def get_compile_config(self) -> dict[str, Any]:
        """Return the current values of the arguments of :meth:`compile` that have an effect; empty before its call."""
        return (
            {} if self.optimizer is None else {"optimizer": self.optimizer, **self.trainer.objective.config}
        )

    # -- epochs

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Any] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        truncated_bptt_steps: int | None = None,
    ) -> History:
        """Train for a number of epochs.

        Parameters
        ----------
        x : array of shape (samples, time, features) or (samples, time), Ragged, or iterable of batches
        y : array_like
            Targets.
        batch_size : int, optional
            32 by default.
        epochs : int
            Number of the epoch before which to stop; epochs are counted from 0, also if `initial_epoch` is given.
        verbose : {"auto", 0, 1, 2}
            0 is silent; 1 and "auto" show a progress bar for each epoch, except in worker processes; 2 prints one line for
            each epoch.
        callbacks : list of Callback, optional
        validation_split : float
            Fraction of the samples, taken from the end, that is used for validation and not for training.
        validation_data : tuple, optional
            ``(x, y)`` or ``(x, y, sample_weight)``. Stateful layers start validation from their initial states, and
            training continues from the states before the validation.
        shuffle : bool or "batch"
            Whether to shuffle the samples before each epoch; ``"batch"`` shuffles within batches. Stateful models need
            False, unless `x` is an iterable.
        class_weight : dict of int to float, optional
        sample_weight : array_like, optional
            One weight for each sample, or for each of its time steps.
        initial_epoch : int
        steps_per_epoch, validation_steps : int, optional
            Stop after this number of batches.
        validation_batch_size : int, optional
        validation_freq : int or sequence of int
            Validate after every `validation_freq` epochs, or after these epochs (counted from 1).
        truncated_bptt_steps : int, optional
            Truncated backpropagation through time: cut the sequences of each batch into pieces of this length, and make
            one update from each piece in turn. Each piece starts from the final states of the previous piece, and
            gradients stop at its start, so memory is that of one piece. Each batch starts from zero states (stateful
            layers from the states of the previous batch). Needs an output and a target for every step. Has no effect on
            shorter sequences; by default gradients are not truncated. Callbacks are called once for a batch.

        Returns
        -------
        History

        Raises
        ------
        NonFiniteLossError
            If the loss is not finite. The weights of the last epoch with a finite loss are restored.

        References
        ----------
        Williams, R. J. & Peng, J. (1990). An efficient gradient-based algorithm for on-line training of recurrent
        network trajectories. Neural Computation 2(4), 490-501.
        """
        self.trainer.need("fit")
        self._need_layers()
        verbose, callbacks = check_verbose(verbose), check_callbacks(callbacks)
        check_schedule_of_fit(
            epochs,
            initial_epoch,
            shuffle,
            validation_split,
            validation_freq,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
        )
        check_class_weight(class_weight, y, sample_weight)
        data, validation = training_data(
            x,
            y,
            batch_size,
            validation_split,
            validation_data,
            sample_weight,
            validation_batch_size,
        )
        if truncated_bptt_steps is not None:
            truncated_bptt_steps = check_pieces(self.layers, data.shape, truncated_bptt_steps)
        self._start(data, validation, shuffle=shuffle)
        if class_weight is not None:
            # Class weights apply to training data only, so that validation is comparable with runs without them.
            data.set_class_weights(class_weight, self._shapes[-1])
        if self.history is not None:
            self.history.model = None
        history = self.trainer.history = History()
        verbose = 1 if verbose == "auto" else int(verbose)
        steps = data.n_batches if steps_per_epoch is None else steps_per_epoch
        calls = CallbackList(
            # The history is called before the callbacks, so that models that they save include the epoch, and after
            # them, to record what they add to the logs.
            [history, *callbacks, history, *([Progress(verbose)] if verbose else [])],
            self,
            {"verbose": verbose, "epochs": epochs, "steps": steps, "do_validation": validation is not None},
        )

        validate = None
        if validation is not None:

            def validate() -> dict[str, float]:
                # Validation does not continue from the states of training, nor training from those of validation.
                with guard(*states(self.layers), always=True):
                    self.reset_states()
                    found = evaluate(self, validation, calls, validation_steps)
                return {f"val_{key}": value for key, value in found.items()}

        schedule = Schedule(
            epochs, initial_epoch, shuffle, steps_per_epoch, truncated_bptt_steps, validation_freq
        )
        task = Task(data, schedule, self._rng, validate=validate)
        outcome = run_epochs(self, task, calls)
        if outcome.failure is not None:
            raise NonFiniteLossError(
                f"in epoch {outcome.epoch + 1}: {str(outcome.failure).split(';')[0]}; the last good weights were "
                f"restored. {HELP}."
            ) from outcome.failure
        return history

    def _start(self, *parts: Batches | None, shuffle: bool | str = False) -> None:
        """Check the data for training and validation, and create the weights."""
        given = [data for data in parts if data is not None]
        for data in given:
            check_data(self, data)
        for data in given:
            check_stateful(self.layers, data, shuffle and data is given[0])
        self._ensure_ready(given[0].shape)
        for data in given:
            self.attach(data)

    def attach(self, data: Batches) -> None:
        """Give this model to stateful batches, which reset its states where a series starts."""
        if isinstance(data.x, StatefulBatches):
            data.x.attach(self)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Sequence[Any] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Compute loss and metrics.

        Parameters
        ----------
        x, y, batch_size, sample_weight, steps, callbacks
            As in :meth:`fit`; `steps` is the number of batches to use.
        verbose : {"auto", 0, 1, 2}
            0 and "auto" are silent, 1 shows a progress bar, and 2 prints one line.
        return_dict : bool

        Returns
        -------
        float, list of float, or dict
            The loss; with metrics a list of loss and metrics; with `return_dict` a dict of both by name.
        """
        self.trainer.need("evaluate")
        self._need_layers()
        verbose, return_dict = check_verbose(verbose), flag(return_dict, "return_dict")
        integer(steps, "steps", optional=True)
        data = Batches(x, y, sample_weight, batch_size)
        self._start(data)
        calls = shown(callbacks, self, verbose, steps or data.n_batches, "evaluate")
        with guard(*states(self.layers)), calls:
            logs = evaluate(self, data, calls, steps)
        return logs if return_dict else by_position(logs)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Sequence[Any] | None = None,
        mask: Any = None,
    ) -> np.ndarray:
        """Compute the outputs of all samples, batch by batch.

        Parameters
        ----------
        x : array, Ragged or iterable of batches
        batch_size : int, optional
            By default 32 in stateful models, 256 otherwise; results don't depend on it.
        verbose, steps, callbacks
            As in :meth:`evaluate`.
        mask : array of bool of shape (samples, time), optional

        Returns
        -------
        ndarray
            For a Ragged input with an output for each step, padding is zero.
        """

        def compute(x: Any, mask: Any) -> np.ndarray:
            result: np.ndarray = self.run(Batch(x, None, None, mask), False).y
            return result

        data, calls = self._prediction_data(x, batch_size, verbose, steps, callbacks, mask)
        longest = int(data.x.lengths.max()) if isinstance(data.x, Ragged) else None
        return predict(self, data, compute, calls, steps, longest)

    def _prediction_data(
        self, x: Any, batch_size: int | None, verbose: Any, steps: Any, callbacks: Any, mask: Any
    ) -> tuple[Batches, CallbackList]:
        """Check the arguments of :meth:`predict`; return the batches and the callbacks."""
        self._need_layers()
        integer(steps, "steps", optional=True)
        verbose, callbacks = check_verbose(verbose), check_callbacks(callbacks)
        if mask is not None:
            if is_stream(x) or isinstance(x, Ragged):
                raise ValueError(
                    "mask: leave it out if x is an iterable of batches, or Ragged, which has no padding"
                )
            mask = check_mask(mask, real_array(x).shape)
        if batch_size is None and not is_stream(x):
            batch_size = 32 if any(layer.stateful for layer in self.layers) else 256
        data = Batches(x, batch_size=batch_size)
        data.mask = mask
        check_stateful(self.layers, data)
        self.expected_output(data.shape)
        self._ensure_ready(data.shape)
        self.attach(data)
        return data, shown(callbacks, self, verbose, steps or data.n_batches, "predict")

    # -- single batches

    def compute_gradients(self, x: Any, y: Any, sample_weight: Any = None, mask: Any = None) -> float:
        """Write the gradient of the loss of one batch into ``grads`` and return the loss."""
        self.trainer.need("compute_gradients")
        return self.trainer.gradients(self, self._batch_of(x, y, sample_weight, mask))

    def train_step(
        self, x: Any, y: Any, sample_weight: Any = None, mask: Any = None, n_steps: int | None = None
    ) -> float:
        """Make one update from a batch, update the metrics, and return the loss.

        Parameters
        ----------
        x, y, sample_weight, mask
            Arrays of one batch, see `fit`.
        n_steps : int, optional
            Truncate backpropagation through time: make one update from each piece of `n_steps` time steps in turn, each
            starting from the final states of the previous piece. The loss is then the mean over the pieces. For the
            requirements see `truncated_bptt_steps` of `fit`.

        Raises
        ------
        NonFiniteLossError
            If loss or gradient is not finite. Weights and states are restored to those before the call, or the piece.
        """
        return self.trainer.train(self, Batch(x, y, sample_weight, mask), n_steps)

    def _batch_of(self, x: Any, y: Any, sample_weight: Any, mask: Any) -> Batch:
        """A single batch as arrays; the mask of a Ragged is its own, unless one is given."""
        x, real = whole(x)
        y = None if y is None else as_array(whole(y)[0], "y")
        sample_weight = check_weights(whole(sample_weight)[0])
        x = self.as_input(x)
        if mask is not None:
            mask = check_mask(mask, x.shape)
            real = None if mask.all() else mask  # a mask of True has no effect
        return Batch(x, y, sample_weight, real)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
        mask: Any = None,
    ) -> Any:
        """Make one update from a batch.

        Returns
        -------
        float, list of float, or dict
            Loss and metrics of this batch, as :meth:`evaluate` returns them.
        """
        self.trainer.need("train_on_batch")
        check_class_weight(class_weight, y, sample_weight)
        return_dict = flag(return_dict, "return_dict")
        batch = self._batch_of(x, y, sample_weight, mask)
        if class_weight is not None:
            batch = batch._replace(weight=class_weights(batch.y, class_weight, self._shapes[-1]))
        self.reset_metrics()
        self.trainer.train(self, batch)
        logs = self.trainer.objective.logs()
        return logs if return_dict else by_position(logs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False, mask: Any = None
    ) -> Any:
        """Compute loss and metrics of a batch; the result is as that of :meth:`train_on_batch`."""
        self.trainer.need("test_on_batch")
        return_dict = flag(return_dict, "return_dict")
        batch = self._batch_of(x, y, sample_weight, mask)
        self.reset_metrics()
        with guard(*states(self.layers)):
            self.trainer.test(self, batch)
        logs = self.trainer.objective.logs()
        return logs if return_dict else by_position(logs)

    def predict_on_batch(self, x: Any, mask: Any = None) -> np.ndarray:
        """Compute the outputs for a batch."""
        self._need_layers()
        result: np.ndarray = self.run(self._batch_of(x, None, None, mask), False).y
        return result
