"""The parameters that the estimators share, described once."""

from __future__ import annotations

__all__ = ["with_shared_documentation"]

PARAMETERS = """cell : {"lstm", "gru", "simple_rnn", "peephole_lstm", "janet", "indrnn"} or kernel, default="lstm"
        Kind of the recurrent layers. "peephole_lstm": gates see the cell state; "janet": an LSTM with nothing but a
        forget gate; "indrnn": each unit sees its own past only, so `recurrent_dropout` must be 0. A cell of your own is
        given as its NamedTuple, the class or an instance with its numbers, see :mod:`fastrnn.engine.recurrence.contract`.
    units : int or tuple of int, default=64
        Width of the recurrent layer; a tuple stacks several, first to last.
    activation : str, default="tanh"
        Activation of the recurrent layers, by Keras's names. A cell of your own has its own.
    recurrent_activation : str, default="sigmoid"
        Activation of the gates; not used by "simple_rnn", "indrnn" and a cell of your own.
    bidirectional : bool, default=False
        Read each sequence in both directions.
    merge_mode : {"concat", "sum", "mul", "ave"}, default="concat"
        How the two directions are put together.
    dropout : float, default=0.0
        Fraction of the inputs of each recurrent layer, and of the inputs of the output layer, that is dropped in
        training; one draw for all time steps of a sequence.
    recurrent_dropout : float, default=0.0
        Fraction of the recurrent state that is dropped in training, with one draw for all time steps too.
    go_backwards : bool, default=False
        Read each sequence from its end. Not with ``return_sequences=True``.
    stateful : bool, default=False
        Let `partial_fit` go on from the states at which the call before stopped, row by row. See Notes.
    unroll : bool, default=False
        Accepted as an argument of Keras. It has no effect: sequences of any length run through the same kernels.
    return_sequences : bool, default=False
        One target for each time step instead of one for each sequence.
    solver : {"adam", "rmsprop", "sgd", "adagrad"} or optimizer, default="adam"
        "sgd" has Nesterov's momentum of 0.9. An object from :mod:`fastrnn.optimizers` is used as it is, so that
        `learning_rate_init` and `clipnorm` don't touch it.
    alpha : float, default=0.0
        Strength of the L2 penalty on all kernels; it is divided by the batch size when added to the loss.
    batch_size : int or "auto", default="auto"
        Sequences in a batch; "auto" is ``min(32, n_samples)``.
    truncated_bptt_steps : int or None, default=None
        Cut each batch into pieces of so many steps: states go on from piece to piece, gradients stop at the border,
        one update for each piece. Memory is that of a piece. Needs ``return_sequences=True``. None: gradients go all
        the way.
    learning_rate_init : float, default=0.001
        Step size of the solver.
    max_iter : int, default=200
        Most epochs of one `fit`.
    shuffle : bool, default=True
        Draw a new order of the samples for each epoch. `partial_fit` with ``stateful=True`` keeps the order.
    random_state : int, RandomState or None, default=None
        For initial weights, dropout, shuffling and the validation split. The same integer and the same `n_jobs`
        give bitwise the same network.
    tol : float or None, default=1e-4
        Training stops when the loss, or with early stopping the validation score, was no better by `tol` for more
        than `n_iter_no_change` epochs in a row. None: always `max_iter` epochs.
    verbose : bool or int, default=False
        Show a progress bar.
    warm_start : bool, default=False
        Let `fit` go on from the weights of the fit before.
    early_stopping : bool, default=False
        Set `validation_fraction` of the samples aside, stop by the score on them, and put the best weights back.
    validation_fraction : float, default=0.1
        Only used with ``early_stopping=True``.
    n_iter_no_change : int, default=10
        Patience, see `tol`.
    clipnorm : float or None, default=1.0
        Gradients of one weight array with a larger norm are scaled down to it.
    vocabulary_size : int or None, default=None
        X holds integer tokens in ``[0, vocabulary_size)``, which an embedding turns into vectors.
    embedding_dim : int, default=32
        Width of these vectors. Only used with `vocabulary_size`.
    dtype : {"float32", "float64"}, default="float32"
        Of weights and computation.
    n_jobs : int or None, default=None
        Threads. None: the cores that are free to us, one inside a joblib worker; -1: all cores."""

ATTRIBUTES = """n_features_in_ : int
        Features of one time step; for a two-dimensional X, which holds one variable, its number of columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Only if X was a data frame whose column names are all strings.
    n_iter_ : int
        Epochs so far: of `fit`, of fits before it with ``warm_start=True``, and of `partial_fit`.
    loss_ : float
        Mean loss in the last epoch.
    loss_curve_ : list of float
        The same for each epoch.
    best_loss_ : float or None
        Least of them; None with early stopping.
    validation_scores_ : list of float or None
        Score on the validation samples after each epoch; None without early stopping.
    best_validation_score_ : float or None
        Best of them.
    model_ : fastrnn.Sequential
        The network.
    states_ : list of list of ndarray, or None
        With ``stateful=True``: for each recurrent layer, the states after the last `partial_fit`, one row for each
        sequence; None when they are zero."""

NOTES = """X is one of

    - an array of shape (n_samples, n_timesteps, n_features). Steps at the end, or at the beginning, of a sequence in
      which all features are NaN are padding, which costs nothing;
    - an array of shape (n_samples, n_timesteps): one variable. As for any table in scikit-learn, the number of
      columns must be in `predict` what it was in `fit`; ``X[:, :, None]`` lifts that;
    - a list, or an object array, of arrays of shape (n_timesteps_i, n_features) or, for one variable,
      (n_timesteps_i,); :func:`fastrnn.sequences.as_object_array` makes such an array;
    - with `vocabulary_size`, integer tokens: an array of shape (n_samples, n_timesteps) or a list of arrays of
      shape (n_timesteps_i,).

    With ``return_sequences=True`` targets, weights of steps and predictions are laid out as X: (n_samples,
    n_timesteps), or a list (in predictions: an object array) of arrays. Where X is padded, targets are not looked at
    and predictions are NaN.

    With ``stateful=True`` row i of a call of `partial_fit` goes on from where row i of the call before stopped, so
    long series can be given piece by piece. Gradients stop at the border of a call. `predict` starts from the states
    of its rows and never writes them; `reset_states` sets them to zero, as does `fit`, which treats its rows as
    whole sequences. While states are held, every call must have as many rows.

    The loss is a mean over samples; sample weights and class weights are scaled to a mean of 1 over all samples. When
    it stops being finite, training stops with :class:`fastrnn.exceptions.NonFiniteLossError` and keeps the weights
    of the last good epoch."""


def with_shared_documentation(cls: type) -> type:
    """Fill the shared paragraphs into the docstring of a class."""
    if cls.__doc__:  # there is none under python -OO
        for mark, text in (("{parameters}", PARAMETERS), ("{attributes}", ATTRIBUTES), ("{notes}", NOTES)):
            cls.__doc__ = cls.__doc__.replace(mark, text)
    return cls
