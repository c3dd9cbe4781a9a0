"""What can't work in layers, models and what they are given is refused before any work.

Each table has rows (what, call, words): the call must fail, and its message must have all the words, which name the
argument, the value, or what would do instead. Rows about objects that exist already are checked to leave them as they
were: weights, states, configuration.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fastrnn import Sequential, constraints, initializers, layers, losses, optimizers, regularizers, schedules
from fastrnn import callbacks as cb
from fastrnn.sequences import Ragged

NAN, INF = float("nan"), float("inf")
N, T, F, U = 4, 5, 3, 2
X = np.random.default_rng(0).normal(size=(N, T, F))
Y = np.random.default_rng(1).normal(size=(N, 1))
FLAT = X[:, 0]
TOKENS = np.arange(N * T).reshape(N, T) % 6
REFUSALS = (ValueError, TypeError, NotImplementedError)


def zeros(*sizes: int, n: int = N) -> list[np.ndarray]:
    return [np.zeros((n, size)) for size in sizes]


def refused(call, words) -> str:
    """The message of `call`, which must fail by what it was given and say so."""
    with pytest.raises(REFUSALS) as caught:
        call()
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    return message


def rows(table):
    return [pytest.param(call, words, id=what) for what, call, *words in table]


# ------------------------------------------------------------------------------- objects of a user's own


class NoState:
    def call(self, x_t, states):
        return x_t, [x_t]


class NoCall:
    state_size = 3


class TextSize(NoState):
    state_size = "three"


class WrongStart(NoState):
    state_size = F

    def get_initial_state(self, batch_size):
        return np.zeros((batch_size, F + 1))


class Hook:
    on_epoch_end = None


# ------------------------------------------------------------------------------- constructors

RECURRENT = {
    "SimpleRNN": layers.SimpleRNN,
    "LSTM": layers.LSTM,
    "GRU": layers.GRU,
    "PeepholeLSTM": layers.PeepholeLSTM,
    "JANET": layers.JANET,
    "IndRNN": layers.IndRNN,
}
OF_EVERY_RECURRENT_LAYER = [
    ("units", 0, "units=0", "positive integer"),
    ("units", "3", "units='3'", "positive integer"),
    ("units", 2.0, "units=2.0", "positive integer"),
    ("units", True, "units=True", "positive integer"),
    ("activation", "tanhh", "activation='tanhh'", "did you mean 'tanh'"),
    ("use_bias", "no", "use_bias='no'", "True or False"),
    ("kernel_initializer", "x", "kernel_initializer='x'", "'glorot_uniform'"),
    ("recurrent_initializer", 3, "recurrent_initializer=3", "'orthogonal'"),
    ("kernel_regularizer", "l3", "kernel_regularizer='l3'", "'l2'"),
    ("bias_regularizer", len, "bias_regularizer=", "no gradient(x)"),
    ("activity_regularizer", 0.1, "activity_regularizer=0.1", "'l2'"),
    ("recurrent_constraint", "norm", "recurrent_constraint='norm'", "'max_norm'"),
    ("dropout", 1, "dropout=1", "from 0 to below 1"),
    ("dropout", "a", "dropout='a'", "from 0 to below 1"),
    ("recurrent_dropout", -0.1, "recurrent_dropout=-0.1", "from 0 to below 1"),
    ("recurrent_dropout", NAN, "recurrent_dropout=nan"),
    ("seed", "a", "seed='a'", "non-negative integer"),
    ("seed", -1, "seed=-1", "non-negative integer"),
    ("return_sequences", "no", "return_sequences='no'", "True or False"),
    ("return_state", None, "return_state=None", "True or False"),
    ("go_backwards", 2, "go_backwards=2", "True or False"),
    ("stateful", "x", "stateful='x'", "True or False"),
    ("unroll", "auto", "unroll='auto'", "True or False"),
    ("zero_output_for_mask", [], "zero_output_for_mask=[]", "True or False"),
    ("return_sequence", True, "unknown argument 'return_sequence'", "did you mean 'return_sequences'"),
    ("dtype", "float16", "dtype='float16'", "'float32' or 'float64'"),
    ("name", 3, "name=3", "string"),
    ("trainable", "yes", "trainable='yes'", "True or False"),
    ("input_shape", 5, "input_shape=5", "tuple"),
    ("input_shape", (None, -3), "input_shape=(None, -3)", "tuple"),
]


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [(a, v, w) for a, v, *w in OF_EVERY_RECURRENT_LAYER],
    ids=[f"{a}={v!r}"[:40] for a, v, *_ in OF_EVERY_RECURRENT_LAYER],
)
def test_argument_of_a_recurrent_layer(name, argument, value, words):
    refused(lambda: RECURRENT[name](**{"units": U, argument: value}), words)


CONSTRUCTORS = [
    ("LSTM recurrent_activation", lambda: layers.LSTM(U, recurrent_activation="x"), "recurrent_activation='x'"),
    ("LSTM own function", lambda: layers.LSTM(U, activation=lambda z: z), "activation="),
    ("LSTM unit_forget_bias", lambda: layers.LSTM(U, unit_forget_bias="x"), "unit_forget_bias='x'", "True"),
    ("GRU reset_after", lambda: layers.GRU(U, reset_after="before"), "reset_after='before'", "True or False"),
    ("JANET beta", lambda: layers.JANET(U, beta="a"), "beta='a'", "number"),
    ("JANET beta nan", lambda: layers.JANET(U, beta=NAN), "beta=nan", "finite"),
    ("JANET t_max", lambda: layers.JANET(U, t_max=2), "t_max=2", "above 2 or None"),
    ("JANET t_max text", lambda: layers.JANET(U, t_max="a"), "t_max='a'", "above 2 or None"),
    ("IndRNN recurrent_dropout", lambda: layers.IndRNN(U, recurrent_dropout=0.1), "recurrent_dropout=0.1", "0"),
    ("KernelCell class", lambda: layers.KernelCell(layers.LSTM), "kernel=", "instance"),
    ("Bidirectional merge_mode", lambda: layers.Bidirectional(layers.LSTM(U), "add"), "merge_mode='add'", "'sum'"),
    ("Bidirectional number", lambda: layers.Bidirectional(5), "layer=5", "LSTM(8)"),
    ("Bidirectional Dense", lambda: layers.Bidirectional(layers.Dense(U)), "layer=", "LSTM(8)"),
    ("Bidirectional cell", lambda: layers.Bidirectional(layers.LSTMCell(U)), "layer=", "LSTM(8)"),
    ("Bidirectional class", lambda: layers.Bidirectional(layers.LSTM), "layer=", "LSTM(8)"),
    (
        "Bidirectional both forwards",
        lambda: layers.Bidirectional(layers.LSTM(U), backward_layer=layers.LSTM(U)),
        "go_backwards=False",
        "other way",
    ),
    (
        "Bidirectional return_sequences differ",
        lambda: layers.Bidirectional(
            layers.LSTM(U), backward_layer=layers.LSTM(U, go_backwards=True, return_sequences=True)
        ),
        "return_sequences=False",
        "return_sequences=True",
    ),
    (
        "Bidirectional stateful differ",
        lambda: layers.Bidirectional(
            layers.LSTM(U, stateful=True), backward_layer=layers.LSTM(U, go_backwards=True)
        ),
        "stateful=True",
        "give both the same",
    ),
    (
        "Bidirectional widths differ",
        lambda: layers.Bidirectional(layers.LSTM(2), "sum", backward_layer=layers.LSTM(3, go_backwards=True)),
        "merge_mode='sum'",
        "'concat' or None",
    ),
    (
        "Bidirectional dtypes differ",
        lambda: layers.Bidirectional(
            layers.LSTM(U), backward_layer=layers.LSTM(U, go_backwards=True, dtype="float64")
        ),
        "float32",
        "float64",
    ),
    ("Bidirectional backward Dense", lambda: layers.Bidirectional(layers.LSTM(U), backward_layer=layers.Dense(U)),
     "backward_layer="),
    ("Bidirectional weights", lambda: layers.Bidirectional(layers.LSTM(U), weights=3), "weights=3", "list"),
    ("Bidirectional unknown", lambda: layers.Bidirectional(layers.LSTM(U), mergemode="sum"), "'merge_mode'"),
    ("RNN without state_size", lambda: layers.RNN(NoState()), "no state_size", "call(x_t, states)"),
    ("RNN without call", lambda: layers.RNN(NoCall()), "no call method", "state_size"),
    ("RNN state_size text", lambda: layers.RNN(TextSize()), "state_size='three'", "positive integer"),
    ("RNN class", lambda: layers.RNN(NoState), "is a class", "instance"),
    ("RNN name", lambda: layers.RNN("lstm"), "cell='lstm'", "state_size"),
    ("RNN layer", lambda: layers.RNN(layers.LSTM(U)), "time loop of its own", "LSTMCell"),
    ("RNN Dense", lambda: layers.RNN(layers.Dense(U)), "no call method"),
    ("RNN of no cells", lambda: layers.RNN([]), "cells=[]", "at least one"),
    ("RNN list with a number", lambda: layers.RNN([layers.GRUCell(U), 3]), "cells[1]=3"),
    ("RNN list with a layer", lambda: layers.RNN([layers.GRU(U)]), "cells[0]=", "time loop of its own"),
    ("RNN unknown", lambda: layers.RNN(layers.LSTMCell(U), units=3), "unknown argument 'units'"),
    ("RNN flag", lambda: layers.RNN(layers.LSTMCell(U), return_state="x"), "return_state='x'"),
    (
        "RNN cell's activity_regularizer",
        lambda: layers.RNN(layers.LSTMCell(U, activity_regularizer="l2")),
        "activity_regularizer",
        "give it to RNN",
    ),
    ("StackedRNNCells empty", lambda: layers.StackedRNNCells([]), "cells=[]", "at least one"),
    ("StackedRNNCells no list", lambda: layers.StackedRNNCells(layers.LSTMCell(U)), "cells=", "list"),
    (
        "StackedRNNCells dtypes",
        lambda: layers.StackedRNNCells([layers.LSTMCell(U), layers.LSTMCell(U, dtype="float64")]),
        "float32",
        "float64",
    ),
    ("StackedRNNCells one twice", lambda: layers.StackedRNNCells([layers.LSTMCell(U)] * 2), "cells[1]", "second"),
    ("StackedRNNCells no state", lambda: layers.StackedRNNCells([NoState()]), "cells[0]=", "no state_size"),
    ("DropoutWrapper keeps nothing", lambda: layers.DropoutWrapper(layers.LSTMCell(U), 0), "input_keep_prob=0"),
    ("DropoutWrapper above 1", lambda: layers.DropoutWrapper(layers.LSTMCell(U), 1, 1.5), "output_keep_prob=1.5"),
    ("DropoutWrapper text", lambda: layers.DropoutWrapper(layers.LSTMCell(U), "a"), "input_keep_prob='a'", "above 0"),
    ("DropoutWrapper layer", lambda: layers.DropoutWrapper(layers.LSTM(U)), "time loop of its own"),
    ("DropoutWrapper number", lambda: layers.DropoutWrapper(3), "cell=3", "no call"),
    (
        "DropoutWrapper unknown",
        lambda: layers.DropoutWrapper(layers.LSTMCell(U), state_keep_prob=0.5),
        "'state_keep_prob'",
        "'output_keep_prob'",
    ),
    ("DropoutWrapper seed", lambda: layers.DropoutWrapper(layers.LSTMCell(U), seed="a"), "seed='a'"),
    ("TimeDistributed number", lambda: layers.TimeDistributed(3), "layer=3"),
    ("TimeDistributed cell", lambda: layers.TimeDistributed(layers.LSTMCell(U)), "is a cell", "RNN"),
    ("TimeDistributed Input", lambda: layers.TimeDistributed(layers.Input((3,))), "first in a model"),
    ("TimeDistributed stateful", lambda: layers.TimeDistributed(layers.LSTM(U, stateful=True)), "stateful"),
    ("TimeDistributed return_state", lambda: layers.TimeDistributed(layers.LSTM(U, return_state=True)), "return_state"),
    (
        "TimeDistributed two outputs",
        lambda: layers.TimeDistributed(layers.Bidirectional(layers.LSTM(U), merge_mode=None)),
        "merge_mode=None",
    ),
    ("RepeatVector 0", lambda: layers.RepeatVector(0), "n=0", "positive integer"),
    ("RepeatVector text", lambda: layers.RepeatVector("a"), "n='a'", "positive integer"),
    ("Masking text", lambda: layers.Masking("a"), "mask_value='a'", "number"),
    ("Masking NaN", lambda: layers.Masking(NAN), "mask_value=nan", "finite"),
    ("Masking None", lambda: layers.Masking(None), "mask_value=None", "number"),
    ("Embedding input_dim", lambda: layers.Embedding(0, 2), "input_dim=0", "positive integer"),
    ("Embedding output_dim", lambda: layers.Embedding(5, 2.5), "output_dim=2.5", "positive integer"),
    ("Embedding mask_zero", lambda: layers.Embedding(5, 2, mask_zero="x"), "mask_zero='x'", "True or False"),
    ("Embedding weights", lambda: layers.Embedding(5, 2, weights=np.ones((4, 2))), "(5, 2)", "(4, 2)"),
    ("Embedding lora", lambda: layers.Embedding(5, 2, lora_rank=1), "lora_rank=1", "None"),
    ("Dense units", lambda: layers.Dense(-1), "units=-1", "positive integer"),
    ("Dense activation", lambda: layers.Dense(2, "softmx"), "activation='softmx'", "'softmax'"),
    ("Dense use_bias", lambda: layers.Dense(2, use_bias="x"), "use_bias='x'", "True or False"),
    ("Dense lora", lambda: layers.Dense(2, lora_rank=1), "lora_rank=1", "None"),
    ("Activation", lambda: layers.Activation("x"), "activation='x'", "'tanh'"),
    ("Dropout rate", lambda: layers.Dropout(1.5), "rate=1.5", "from 0 to 1"),
    ("Dropout noise_shape", lambda: layers.Dropout(0.5, noise_shape=3), "noise_shape=3", "tuple"),
    ("Flatten", lambda: layers.Flatten("last"), "data_format='last'", "'channels_last'"),
    ("ActivityRegularization", lambda: layers.ActivityRegularization(-1), "l1=-1", "non-negative"),
    ("Input nothing", lambda: layers.Input(), "shape=(None, 3)"),
    ("Input size", lambda: layers.Input((-1,)), "-1", "positive integer"),
    ("Input twice", lambda: layers.Input((3,), batch_shape=(1, 3)), "either batch_shape"),
    ("Input dtype", lambda: layers.Input((3,), dtype="foo"), "dtype='foo'", "'int32'"),
    ("Input batch_size", lambda: layers.Input((3,), batch_size="a"), "batch_size='a'", "positive integer"),
    ("deserialize", lambda: layers.deserialize({"class_name": "LSTMM"}), "'LSTMM'", "did you mean 'LSTM'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), rows(CONSTRUCTORS))
def test_constructor(call, words):
    refused(call, words)


# ------------------------------------------------------------------------------- shapes that a layer can't be built for

BUILDS = [
    ("LSTM no features", lambda: layers.LSTM(U).build((None, None, None)), "number of features"),
    ("LSTM two axes", lambda: layers.LSTM(U).build((None, 3)), "3 axes", "(None, 3)"),
    ("LSTM number", lambda: layers.LSTM(U).build(5), "input_shape=5", "tuple"),
    ("LSTM None", lambda: layers.LSTM(U).build(None), "input_shape=None", "tuple"),
    ("RNN no features", lambda: layers.RNN(layers.GRUCell(U)).build((1, 2, None)), "number of features"),
    ("Bidirectional two axes", lambda: layers.Bidirectional(layers.GRU(U)).build((1, 2)), "3 axes"),
    ("Dense no features", lambda: layers.Dense(U).build((None, None)), "number of features"),
    ("TimeDistributed two axes", lambda: layers.TimeDistributed(layers.Dense(U)).build((1, 2)), "at least 3 axes"),
    ("orthogonal bias", lambda: layers.LSTM(U, bias_initializer="orthogonal").build((1, 2, 3)), "two axes", "(8,)"),
    (
        "initializer of another shape",
        lambda: layers.LSTM(U, kernel_initializer=lambda shape, dtype=None: np.ones(3)).build((1, 2, 3)),
        "shape (3,)",
        "(3, 8)",
    ),
    (
        "constraint along an axis that the bias has not",
        lambda: layers.LSTM(U, bias_constraint=constraints.MaxNorm(2, axis=1)).build((1, 2, 3)),
        "MaxNorm(max_value=2, axis=1)",
        "'bias'",
    ),
    (
        "constraint that changes the shape",
        lambda: layers.Dense(U, kernel_constraint=np.transpose).build((1, 3)),
        "'kernel'",
        "(2, 3)",
    ),
    ("penalty on matrices for a bias", lambda: layers.GRU(U, reset_after=False, bias_regularizer="orthogonal").build(
        (1, 2, 3)), "'bias'", "matrix"),
    (
        "Bidirectional weights of one direction",
        lambda: layers.Bidirectional(layers.GRU(U), weights=zeros(U)).build((1, 2, 3)),
        "takes weights of shapes",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), rows(BUILDS))
def test_build(call, words):
    refused(call, words)


def test_build_that_fails_leaves_the_layer_without_weights():
    layer = layers.LSTM(U, bias_initializer="orthogonal")
    before = layer.get_config()
    for call in (lambda: layer.build((None, None, F)), lambda: layer(X)):
        refused(call, ["two axes"])
        assert not layer.built
        assert layer.get_weights() == []
        assert layer.get_config() == before


# ------------------------------------------------------------------------------- calls

SINGLE = {
    "SimpleRNN": (lambda **k: layers.SimpleRNN(U, **k), [U]),
    "GRU": (lambda **k: layers.GRU(U, **k), [U]),
    "LSTM": (lambda **k: layers.LSTM(U, **k), [U, U]),
    "PeepholeLSTM": (lambda **k: layers.PeepholeLSTM(U, **k), [U, U]),
    "RNN": (lambda **k: layers.RNN(layers.LSTMCell(U), **k), [U, U]),
    "RNN stack": (lambda **k: layers.RNN([layers.GRUCell(3), layers.GRUCell(U)], **k), [3, U]),
    "Bidirectional": (lambda **k: layers.Bidirectional(layers.GRU(U, **k)), [U, U]),
}
# What of a layer with the given state sizes, and words; the call gets the layer and its sizes.
OF_EVERY_CALL = [
    ("x of 2 axes", lambda c, s: c(FLAT), "3 axes", "(None, 3)"),
    ("x of 4 axes", lambda c, s: c(X[None]), "3 axes"),
    ("x of other features", lambda c, s: c(X[:, :, :2]), "built for 3 features", "got 2"),
    ("no sequence", lambda c, s: c(X[:0]), "at least one sequence of one step", "(0, 5, 3)"),
    ("no step", lambda c, s: c(X[:, :0]), "at least one sequence of one step", "(4, 0, 3)"),
    ("x text", lambda c, s: c(np.full((N, T, F), "a")), "x has dtype <U1", "real numbers"),
    ("x None", lambda c, s: c(None), "x is None", "real numbers"),
    ("x objects", lambda c, s: c(np.full((N, T, F), None)), "dtype object", "real numbers"),
    ("x complex", lambda c, s: c(X * 1j), "dtype complex128", "real numbers"),
    ("x of unequal lengths", lambda c, s: c([X[0], X[1, :3]]), "unequal", "mask", "Ragged"),
    ("mask of floats", lambda c, s: c(X, mask=np.ones((N, T))), "mask has dtype float64", "astype(bool)"),
    ("mask of integers", lambda c, s: c(X, mask=np.ones((N, T), int)), "mask has dtype int64", "astype(bool)"),
    ("mask of other steps", lambda c, s: c(X, mask=np.ones((N, T - 1), bool)), "mask has shape (4, 4)", "(4, 5)"),
    ("mask of other batch", lambda c, s: c(X, mask=np.ones((1, T), bool)), "mask has shape (1, 5)", "(4, 5)"),
    ("mask of 1 axis", lambda c, s: c(X, mask=np.ones(T, bool)), "mask has shape (5,)", "(4, 5)"),
    ("mask of 3 axes", lambda c, s: c(X, mask=np.ones((N, T, 1), bool)), "mask has shape (4, 5, 1)"),
    ("too many states", lambda c, s: c(X, initial_state=zeros(*s, U)), "initial_state has"),
    ("no states", lambda c, s: c(X, initial_state=[]), "initial_state has 0"),
    ("states of another size", lambda c, s: c(X, initial_state=zeros(*s[:-1], 7)), "has shape (4, 7)", "(4, 2)"),
    ("states of another batch", lambda c, s: c(X, initial_state=zeros(*s, n=3)), "has shape (3,", "(4,"),
    ("state None", lambda c, s: c(X, initial_state=[None] * len(s)), "initial_state"),
    ("states of text", lambda c, s: c(X, initial_state=[np.full((N, n), "a") for n in s]), "dtype <U1"),
    ("training", lambda c, s: c(X, training="yes"), "training='yes'", "True or False"),
    ("unknown", lambda c, s: c(X, lengths=3), "lengths"),
]  # fmt: skip


def snapshot(layer):
    states = getattr(layer, "states", None)
    return layer.built, layer.get_weights(), copy.deepcopy(states), layer.get_config(), layer.weights_version


def assert_as_before(layer, before):
    after = snapshot(layer)
    assert (after[0], after[3], after[4]) == (before[0], before[3], before[4])
    np.testing.assert_equal(after[1], before[1])
    np.testing.assert_equal(after[2], before[2])


@pytest.mark.parametrize("state", ["new", "stateful"])
@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize(("call", "words"), [pytest.param(c, w, id=what) for what, c, *w in OF_EVERY_CALL])
def test_call_of_a_recurrent_layer(name, call, words, state):
    """A layer without weights stays so; one with states keeps them, in both directions and every cell."""
    make, sizes = SINGLE[name]
    layer = make(stateful=state == "stateful")
    if state == "stateful":
        layer(X)
    elif "built for" in words[0]:
        layer.build((None, None, F))
    before = snapshot(layer)
    refused(lambda: call(layer, sizes), words)
    assert_as_before(layer, before)


def test_stack_s_states_are_counted_cell_by_cell():
    layer = layers.RNN([layers.LSTMCell(U), layers.GRUCell(U)], stateful=True)
    layer(X)
    before = snapshot(layer)
    for states, words in (
        (zeros(U), ["1 entries", "2 cells"]),
        ([zeros(U), *zeros(U)], ["1 arrays", "'lstm_cell' has 2"]),
        ([zeros(U, U), *zeros(7)], ["initial_state[1] has shape (4, 7)", "(4, 2)"]),
        ([zeros(U, 7), *zeros(U)], ["initial_state[0][1] has shape (4, 7)", "(4, 2)"]),
    ):
        refused(lambda states=states: layer(X, initial_state=states), words)
        assert_as_before(layer, before)


def test_backward_direction_s_state_is_looked_at_before_the_forward_one_runs():
    layer = layers.Bidirectional(layers.LSTM(U, stateful=True))
    layer(X)
    before = snapshot(layer)
    refused(lambda: layer(X, initial_state=zeros(U, U, U, 7)), ["has shape (4, 7)", "(4, 2)"])
    assert_as_before(layer, before)
    refused(lambda: layer(X, initial_state=zeros(U, U)), ["initial_state has 2 arrays", "(2)"])
    assert_as_before(layer, before)


def test_start_of_a_user_s_own_is_looked_at():
    refused(lambda: layers.RNN(WrongStart())(X), ["get_initial_state", "(4, 4)", "(4, 3)"])


OTHER_CALLS = [
    ("stateful, other batch", lambda: _after(layers.LSTM(U, stateful=True), X)(X[:2]), "of 4 sequences", "reset_state()"),
    ("cell over time", lambda: layers.LSTMCell(U)(X, zeros(U, U)), "(4, 5, 3)", "(batch, features)"),
    ("cell with one state of two", lambda: layers.LSTMCell(U)(FLAT, zeros(U)), "states has 1 arrays", "2 states"),
    ("cell with states of another batch", lambda: layers.GRUCell(U)(FLAT, zeros(U, n=3)), "(3, 2)", "(4, 2)"),
    ("cell without states", lambda: layers.GRUCell(U)(FLAT, None), "states"),
    (
        "stack of cells with one entry",
        lambda: layers.StackedRNNCells([layers.GRUCell(U), layers.GRUCell(U)])(FLAT, zeros(U)),
        "states has 1 entries",
        "2 cells",
    ),
    (
        "stack of cells without states",
        lambda: layers.StackedRNNCells([layers.GRUCell(U), layers.GRUCell(U)])(FLAT, None),
        "2 cells",
    ),
    ("TimeDistributed over 2 axes", lambda: layers.TimeDistributed(layers.Dense(U))(FLAT), "at least 3 axes"),
    ("TimeDistributed LSTM over 3 axes", lambda: layers.TimeDistributed(layers.LSTM(U))(X), "3 axes", "(None, 3)"),
    ("RepeatVector over 3 axes", lambda: layers.RepeatVector(2)(X), "2 axes", "(None, 5, 3)"),
    ("Masking over 2 axes", lambda: layers.Masking()(FLAT), "3 axes", "(None, 3)"),
    ("Dense over 1 axis", lambda: layers.Dense(U)(X[0, 0]), "(batch, ..., features)"),
    ("Dense other features", lambda: _after(layers.Dense(U), X)(X[:, :, :2]), "built for 3", "got 2"),
    ("Dense mask", lambda: layers.Dense(U)(X, mask=np.ones((N, T))), "mask has dtype float64"),
    ("Dropout noise_shape", lambda: layers.Dropout(0.5, noise_shape=(None, 1))(X, training=True), "2 axes", "3"),
    ("Dropout noise size", lambda: layers.Dropout(0.5, noise_shape=(None, 2, 3))(X), "(None, 2, 3)", "1 or None"),
    ("Embedding fractions", lambda: layers.Embedding(6, U)(TOKENS + 0.5), "integer tokens", "fractions"),
    ("Embedding NaN", lambda: layers.Embedding(6, U)(TOKENS * NAN), "integer tokens", "NaN"),
    ("Embedding text", lambda: layers.Embedding(6, U)(TOKENS.astype(str)), "integer tokens", "dtype <U"),
    ("Embedding too large", lambda: layers.Embedding(5, U)(TOKENS), "token 5", "input_dim=5", "0 to 4"),
    ("Embedding negative", lambda: layers.Embedding(5, U)(TOKENS - 3), "token -3", "0 to 4"),
    ("set_weights before build", lambda: layers.LSTM(U).set_weights([]), "build(input_shape)"),
    ("count_params before build", lambda: layers.LSTM(U).count_params(), "build it first"),
    ("backward without training", lambda: _backward(layers.LSTM(U)), "training=True"),
    ("cell without backward", lambda: layers.RNN(_Steps())(X, training=True), "backward"),
]  # fmt: skip


class _Steps(NoState):
    state_size = F


def _after(layer, x):
    layer(x)
    return layer


def _backward(layer):
    layer.build(X.shape)
    y, cache = layer.forward(X.astype("float32"))
    layer.backward(y, cache)


@pytest.mark.parametrize(("call", "words"), rows(OTHER_CALLS))
def test_call(call, words):
    refused(call, words)


@pytest.mark.parametrize("name", [*SINGLE, "Dense"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: w[:1], ["takes weights of shapes"]),
        (lambda w: [a.T for a in w], ["takes weights of shapes"]),
        (lambda w: [w[0] + 1, *[np.full(a.shape, "a") for a in w[1:]]], ["weights[1] has dtype <U1", "real numbers"]),
        (lambda w: [w[0] + 1, *w[1:-1], w[-1][:-1]], ["takes weights of shapes"]),
        (lambda w: None, ["weights=None", "list"]),
        (lambda w: 3, ["weights=3", "list"]),
    ],
    ids=["count", "shapes", "text", "last", "none", "number"],
)  # fmt: skip
def test_set_weights(name, spoil, words):
    """Not one array is set if one of them is wrong."""
    layer = SINGLE[name][0]() if name in SINGLE else layers.Dense(U)
    layer.build((None, None, F))
    before = snapshot(layer)
    refused(lambda: layer.set_weights(spoil(layer.get_weights())), words)
    assert_as_before(layer, before)


# ------------------------------------------------------------------------------- models


def model(*, optimizer="sgd", loss="mse", seed=0, **options) -> Sequential:
    made = Sequential([layers.LSTM(U, **options), layers.Dense(1)], seed=seed)
    made.build((None, None, F))
    made.compile(optimizer, loss)
    return made


def classifier(loss="sparse_categorical_crossentropy") -> Sequential:
    made = Sequential([layers.GRU(U), layers.Dense(3, activation="softmax")], seed=0)
    made.compile("adam", loss)
    return made


MODELS = [
    ("number", lambda: Sequential(3), "layers=3", "list"),
    ("a layer alone", lambda: Sequential(layers.LSTM(U)), "layers=", "list"),
    ("list with a number", lambda: Sequential([3]), "layers holds 3"),
    ("class", lambda: Sequential([layers.LSTM]), "layers holds <class"),
    ("name", lambda: Sequential(name=3), "name=3", "string"),
    ("seed", lambda: Sequential(seed="a"), "seed='a'", "integer"),
    ("trainable", lambda: Sequential(trainable="x"), "trainable='x'", "True or False"),
    ("return_state", lambda: Sequential([layers.LSTM(U, return_state=True), layers.Dense(1)]), "return_state=True"),
    (
        "return_state inside Bidirectional",
        lambda: Sequential([layers.Bidirectional(layers.GRU(U, return_state=True)), layers.Dense(1)]),
        "return_state=True",
        "several outputs",
    ),
    ("return_state of RNN", lambda: Sequential([layers.RNN(layers.GRUCell(U), return_state=True)]), "return_state=True"),
    ("merge_mode None", lambda: Sequential([layers.Bidirectional(layers.GRU(U), None)]), "merge_mode=None"),
    ("cell", lambda: Sequential([layers.LSTMCell(U)]), "is a cell", "RNN"),
    ("stack of cells", lambda: Sequential([layers.StackedRNNCells([layers.GRUCell(U)])]), "is a cell", "RNN"),
    ("Input second", lambda: Sequential([layers.LSTM(U), layers.Input((3,))]), "must come first"),
    ("Input twice", lambda: Sequential([layers.Input((3,)), layers.Input((3,))]), "must come first"),
    ("one layer twice", lambda: Sequential([layers.LSTM(U)] * 2), "in the model already"),
    ("one name twice", lambda: Sequential([layers.LSTM(U, name="a"), layers.Dense(1, name="a")]), "name='a'"),
    ("dtypes", lambda: Sequential([layers.LSTM(U), layers.Dense(1, dtype="float64")]), "float64", "float32"),
    (
        "recurrent after one output",
        lambda: Sequential([layers.Input((None, F)), layers.LSTM(U), layers.LSTM(U)]),
        "'lstm_1'",
        "3 axes",
    ),
    (
        "RepeatVector after sequences",
        lambda: Sequential([layers.Input((T, F)), layers.LSTM(U, return_sequences=True), layers.RepeatVector(3)]),
        "2 axes",
    ),
    (
        "Embedding second",
        lambda: Sequential([layers.LSTM(U, return_sequences=True), layers.Embedding(3, 2)]),
        "takes tokens",
        "first",
    ),
    (
        "TimeDistributed after one output",
        lambda: Sequential([layers.Input((T, F)), layers.GRU(U), layers.TimeDistributed(layers.Dense(2))]),
        "at least 3 axes",
    ),
    (
        "Dense after Flatten of any length",
        lambda: Sequential([layers.Input((None, F)), layers.Flatten(), layers.Dense(2)]),
        "known number of features",
    ),
    ("build number", lambda: Sequential([layers.LSTM(U)]).build(5), "input_shape=5", "tuple"),
    ("build None", lambda: Sequential([layers.LSTM(U)]).build(None), "input_shape=None", "tuple"),
    ("build two axes", lambda: Sequential([layers.LSTM(U)]).build((None, 3)), "3 axes"),
    ("build no features", lambda: Sequential([layers.LSTM(U)]).build((None, None, None)), "number of features"),
    ("build again", lambda: model().build((None, None, 4)), "(None, None, 3)", "(None, None, 4)"),
    ("no layers, predict", lambda: Sequential().predict(X), "no layers"),
    ("no layers, build", lambda: Sequential().build(X.shape), "no layers"),
    ("no layers, pop", lambda: Sequential().pop(), "no layers"),
    ("get_layer name", lambda: model().get_layer("x"), "name='x'", "'lstm'"),
    ("get_layer index", lambda: model().get_layer(index=7), "index=7", "2 layers"),
    ("from_config", lambda: Sequential.from_config({}), "config={}", "get_config()"),
    ("from_config of unknown", lambda: Sequential.from_config({"layers": [{"class_name": "LSTMM"}]}), "'LSTM'"),
    ("not compiled", lambda: Sequential([layers.LSTM(U)]).fit(X, Y), "compile"),
    ("compiled without a loss", lambda: model(loss=None).fit(X, Y), "loss='mse'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), rows(MODELS))
def test_model(call, words):
    from fastrnn.exceptions import NotCompiledError

    with pytest.raises((*REFUSALS, NotCompiledError)) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LSTM(U),
        lambda: layers.Dense(1, dtype="float64"),
        lambda: layers.GRUCell(U),
        lambda: layers.Embedding(3, 2),
        lambda: layers.Dense(1, kernel_constraint=np.transpose),
    ],
    ids=["shape", "dtype", "cell", "tokens", "build"],
)
def test_layer_that_can_t_be_added_leaves_the_model_as_it_was(layer):
    made = Sequential([layers.Input((None, F)), layers.LSTM(U)], seed=0)
    before, weights, x = made.get_config(), made.get_weights(), X.astype("float32")
    out = made.predict(x)
    refused(lambda: made.add(layer()), [])
    assert made.get_config() == before
    assert len(made.layers) == 1
    np.testing.assert_equal(made.get_weights(), weights)
    np.testing.assert_array_equal(made.predict(x), out)
    made.add(layers.Dense(1))
    assert made.predict(x).shape == (N, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.fit(X, Y, verbose=0),
        lambda m: m.predict(X),
        lambda m: m.evaluate(X, Y),
        lambda m: m.train_on_batch(X, Y),
        lambda m: m.build(X.shape),
        lambda m: m(X),
    ],
    ids=["fit", "predict", "evaluate", "train_on_batch", "build", "call"],
)
def test_layers_that_don_t_fit_get_no_weights(call):
    """The second layer can't follow the first: the first one has no weights either, and can be used elsewhere."""
    made = Sequential([layers.LSTM(U), layers.LSTM(U)])
    made.compile("sgd", "mse")
    refused(lambda: call(made), ["'lstm_1'", "3 axes", ", 2)"])
    assert not made.layers[0].built
    assert not made.built
    made.pop()
    assert made.predict(X).shape == (N, U)


COMPILES = [
    ("optimizer name", {"optimizer": "adamm"}, "optimizer='adamm'", "did you mean 'adam'"),
    ("optimizer number", {"optimizer": 3}, "optimizer=3", "'adam'"),
    ("optimizer None", {"optimizer": None}, "optimizer=None", "'adam'"),
    ("loss name", {"loss": "msee"}, "loss='msee'", "did you mean 'mse'"),
    ("loss number", {"loss": 3}, "loss=3", "'mse'"),
    ("loss function", {"loss": lambda y, p: 0}, "no gradient", "fastrnn.losses.Loss"),
    ("loss list", {"loss": ["mse"]}, "loss=['mse']"),
    ("metrics name", {"metrics": ["acuracy"]}, "metrics='acuracy'", "did you mean 'accuracy'"),
    ("metrics number", {"metrics": 3}, "metrics=3", "'accuracy'"),
    ("metrics None inside", {"metrics": [None]}, "metrics holds None"),
    ("weighted_metrics", {"weighted_metrics": ["x"]}, "weighted_metrics='x'", "'accuracy'"),
    ("loss_weights text", {"loss_weights": "a"}, "loss_weights='a'", "number"),
    ("loss_weights NaN", {"loss_weights": NAN}, "loss_weights=nan", "finite"),
    ("loss_weights list", {"loss_weights": [1]}, "loss_weights=[1]", "one output"),
    ("unknown", {"metric": ["mae"]}, "metric"),
]


@pytest.mark.parametrize(("arguments", "words"), [pytest.param(a, w, id=what) for what, a, *w in COMPILES])
def test_compile(arguments, words):
    """A model that was compiled goes on with what it was compiled with."""
    made = model(optimizer="adam")
    before = made.optimizer, made.loss, made.metrics_names
    refused(lambda: made.compile(**{"optimizer": "sgd", "loss": "mae", **arguments}), words)
    assert (made.optimizer, made.loss, made.metrics_names) == before


def streamed(*batches):
    return lambda: iter(batches)


VALID = {"validation_data": (X, Y)}
FITS = [
    ("batch_size 0", {"batch_size": 0}, "batch_size=0", "positive integer"),
    ("batch_size text", {"batch_size": "a"}, "batch_size='a'", "positive integer"),
    ("batch_size True", {"batch_size": True}, "batch_size=True", "positive integer"),
    ("epochs negative", {"epochs": -1}, "epochs=-1", "non-negative integer"),
    ("epochs 2.5", {"epochs": 2.5}, "epochs=2.5", "integer"),
    ("epochs None", {"epochs": None}, "epochs=None", "integer"),
    ("initial_epoch", {"initial_epoch": -1}, "initial_epoch=-1", "non-negative integer"),
    ("verbose", {"verbose": "a"}, "verbose='a'", "'auto', 0, 1 or 2"),
    ("verbose 3", {"verbose": 3}, "verbose=3", "'auto', 0, 1 or 2"),
    ("callbacks number", {"callbacks": 3}, "callbacks=3", "list"),
    ("callbacks one", {"callbacks": cb.TerminateOnNaN()}, "callbacks=", "list"),
    ("callbacks of numbers", {"callbacks": [3]}, "callbacks holds 3", "Callback"),
    ("callbacks class", {"callbacks": [cb.TerminateOnNaN]}, "class TerminateOnNaN", "instance"),
    ("callbacks with one hook", {"callbacks": [Hook()]}, "callbacks holds", "Callback"),
    ("validation_split", {"validation_split": 1.0}, "validation_split=1.0", "from 0 to below 1"),
    ("validation_split text", {"validation_split": "a"}, "validation_split='a'", "number"),
    ("validation_split NaN", {"validation_split": NAN}, "validation_split=nan"),
    ("validation_data number", {"validation_data": 3}, "x has shape ()"),
    ("validation_data x", {"validation_data": (X,)}, "1 parts", "(x, y)"),
    ("validation_data 4", {"validation_data": (X, Y, Y, Y)}, "4 parts", "(x, y)"),
    ("validation_data y None", {"validation_data": (X, None)}, "y is missing"),
    ("validation_data count", {"validation_data": (X, Y[:2])}, "x has 4 samples, y has 2"),
    ("validation_data features", {"validation_data": (X[:, :, :2], Y)}, "(None, None, 3)", "(None, 5, 2)"),
    ("validation_data y shape", {"validation_data": (X, np.zeros((N, 2)))}, "(4, 2)", "(4, 1)"),
    ("validation_data weights", {"validation_data": (X, Y, np.ones(3))}, "sample_weight has 3"),
    ("shuffle", {"shuffle": "x"}, "shuffle='x'", "'batch'"),
    ("class_weight number", {"class_weight": 3}, "class_weight=3", "dict"),
    ("class_weight class", {"class_weight": {"a": 1}}, "'a'", "integers"),
    ("class_weight weight", {"class_weight": {0: "a"}}, "class_weight[0]='a'", "number"),
    ("class_weight NaN", {"class_weight": {0: NAN}}, "class_weight[0]=nan", "finite"),
    ("both weights", {"class_weight": {0: 1.0}, "sample_weight": np.ones(N)}, "either class_weight or sample_weight"),
    ("sample_weight count", {"sample_weight": np.ones(3)}, "x has 4 samples, sample_weight has 3"),
    ("sample_weight shape", {"sample_weight": np.ones((N, 2))}, "sample_weight has shape (4, 2)"),
    ("sample_weight text", {"sample_weight": ["a"] * N}, "sample_weight has dtype", "real numbers"),
    ("sample_weight word", {"sample_weight": "a"}, "sample_weight has dtype", "real numbers"),
    ("sample_weight number", {"sample_weight": 2.0}, "sample_weight=2.0", "each sample"),
    ("sample_weight NaN", {"sample_weight": np.full(N, NAN)}, "sample_weight holds NaN"),
    ("steps_per_epoch 0", {"steps_per_epoch": 0}, "steps_per_epoch=0", "positive integer"),
    ("steps_per_epoch 2.5", {"steps_per_epoch": 2.5}, "steps_per_epoch=2.5", "positive integer or None"),
    ("validation_steps", {"validation_steps": 0, **VALID}, "validation_steps=0", "positive integer"),
    ("validation_batch_size", {"validation_batch_size": 0, **VALID}, "validation_batch_size=0", "positive integer"),
    ("validation_freq 0", {"validation_freq": 0, **VALID}, "validation_freq=0", "positive integer"),
    ("validation_freq text", {"validation_freq": "a", **VALID}, "validation_freq='a'", "list of them"),
    ("validation_freq none", {"validation_freq": [], **VALID}, "validation_freq=[]", "list of them"),
    ("validation_freq list", {"validation_freq": [1, 0], **VALID}, "validation_freq[1]=0"),
    ("truncated_bptt_steps", {"truncated_bptt_steps": 2}, "return_sequences=True"),
    ("unknown", {"nb_epoch": 3}, "nb_epoch"),
    ("x None", {"x": None}, "x is None", "real numbers"),
    ("x text", {"x": np.full(X.shape, "a")}, "x has dtype <U1", "real numbers"),
    ("x of unequal lengths", {"x": [X[0], X[1, :2], X[2], X[3]]}, "unequal", "Ragged"),
    ("x features", {"x": X[:, :, :2]}, "(None, None, 3)", "(None, 5, 2)"),
    ("x of two axes", {"x": FLAT}, "(None, None, 3)", "(None, 3)"),
    ("x of one axis", {"x": FLAT[:, 0]}, "at least two axes"),
    ("x empty", {"x": X[:0], "y": Y[:0]}, "no samples"),
    ("y None", {"y": None}, "y is missing"),
    ("y count", {"y": Y[:2]}, "x has 4 samples, y has 2"),
    ("y number", {"y": 3}, "y is 3", "each sample"),
    ("y shape", {"y": np.zeros((N, 3))}, "(4, 3)", "(4, 1)"),
    ("y text", {"y": np.full((N, 1), "a")}, "y has dtype <U1", "numbers"),
    ("y of unequal lengths", {"y": [[1], [1, 2], [1], [1]]}, "y holds sequences of unequal"),
    ("stream of numbers", {"x": streamed(3), "y": None}, "x gives int objects", "(x, y)"),
    ("stream without y", {"x": streamed((X,)), "y": None}, "y is missing"),
    ("stream of nothing", {"x": streamed(), "y": None}, "no batches"),
    ("stream with y", {"x": streamed((X, Y))}, "y: leave it out"),
    ("stream with batch_size", {"x": streamed((X, Y)), "y": None, "batch_size": 2}, "batch_size=2", "leave it out"),
    (
        "stream with sample_weight",
        {"x": streamed((X, Y)), "y": None, "sample_weight": np.ones(N)},
        "sample_weight=",
        "leave it out",
    ),
    ("stream with validation_split", {"x": streamed((X, Y)), "y": None, "validation_split": 0.5}, "validation_data"),
    ("stream of other features", {"x": streamed((X[:, :, :2], Y)), "y": None}, "(None, 5, 2)"),
    ("stream with y of another shape", {"x": streamed((X, np.zeros((N, 2)))), "y": None}, "(4, 2)", "(4, 1)"),
]  # fmt: skip


def state_of(made):
    return {
        "params": made.params.copy(),
        "optimizer": made.optimizer.get_state(),
        "states": copy.deepcopy([getattr(layer, "states", None) for layer in made.layers]),
        "config": made.get_config(),
        "loss": made.loss,
        "rng": copy.deepcopy(made._rng.bit_generator.state),
    }


def assert_unchanged(made, before):
    after = state_of(made)
    for name, value in before.items():
        np.testing.assert_equal(after[name], value, err_msg=name)


class Counting(cb.Callback):
    """Whether training has begun."""

    count = 0

    def on_train_begin(self, logs=None):
        self.count += 1


@pytest.mark.parametrize(("arguments", "words"), [pytest.param(a, w, id=what) for what, a, *w in FITS])
@pytest.mark.parametrize("state", ["stateless", "stateful"])
def test_fit(arguments, words, state):
    """Refused before training begins: nothing has changed, weights, states, the optimizer's and the order of samples."""
    made = model(optimizer="adam", stateful=state == "stateful")
    made.train_on_batch(X, Y)
    before, watch = state_of(made), Counting()
    call = {"x": X, "y": Y, "verbose": 0, "callbacks": [watch], **arguments}
    if callable(call["x"]):
        call["x"] = call["x"]()
    message = refused(lambda: made.fit(**call), words)
    assert "last good weights" not in message
    assert watch.count == 0
    assert_unchanged(made, before)


CLASSES = [
    ("class too large", classifier, np.full(N, 3), "class 3", "0 to 2"),
    ("class negative", classifier, np.full(N, -1), "class -1", "0 to 2"),
    ("one bad class at the end", classifier, np.array([0, 1, 2, 3]), "class 3", "0 to 2"),
    ("one-hot for sparse", classifier, np.eye(3)[[0, 1, 2, 0]], "use categorical_crossentropy"),
    ("classes as text", classifier, np.array(list("abca")), "dtype <U1"),
    (
        "classes for one-hot",
        lambda: classifier("categorical_crossentropy"),
        np.array([0, 1, 2, 0]),
        "sparse_categorical_crossentropy",
    ),
]


@pytest.mark.parametrize(
    ("make", "y", "words"), [pytest.param(m, y, w, id=what) for what, m, y, *w in CLASSES]
)
def test_classes(make, y, words):
    made = make()
    made.build(X.shape)
    before = state_of(made)
    for call in (lambda: made.fit(X, y, batch_size=2, verbose=0), lambda: made.train_on_batch(X, y)):
        refused(call, words)
        assert_unchanged(made, before)


OTHER_METHODS = [
    ("evaluate batch_size", lambda m: m.evaluate(X, Y, batch_size=0), "batch_size=0", "positive integer"),
    ("evaluate verbose", lambda m: m.evaluate(X, Y, verbose="a"), "verbose='a'"),
    ("evaluate steps", lambda m: m.evaluate(X, Y, steps=0), "steps=0", "positive integer"),
    ("evaluate sample_weight", lambda m: m.evaluate(X, Y, sample_weight=np.ones(3)), "sample_weight has 3"),
    ("evaluate callbacks", lambda m: m.evaluate(X, Y, callbacks=3), "callbacks=3"),
    ("evaluate return_dict", lambda m: m.evaluate(X, Y, return_dict="x"), "return_dict='x'"),
    ("evaluate y None", lambda m: m.evaluate(X), "y is missing"),
    ("evaluate y shape", lambda m: m.evaluate(X, np.zeros((N, 2))), "(4, 2)", "(4, 1)"),
    ("predict batch_size", lambda m: m.predict(X, batch_size=0), "batch_size=0"),
    ("predict verbose", lambda m: m.predict(X, verbose="a"), "verbose='a'"),
    ("predict steps", lambda m: m.predict(X, steps=0), "steps=0", "positive integer"),
    ("predict callbacks", lambda m: m.predict(X, callbacks=3), "callbacks=3"),
    ("predict mask dtype", lambda m: m.predict(X, mask=np.ones((N, T))), "mask has dtype float64"),
    ("predict mask shape", lambda m: m.predict(X, mask=np.ones((N, T - 1), bool)), "mask has shape (4, 4)"),
    ("predict mask count", lambda m: m.predict(X, mask=np.ones((N - 1, T), bool)), "mask has shape (3, 5)"),
    ("predict x", lambda m: m.predict(FLAT), "(None, None, 3)", "(None, 3)"),
    ("predict stream with mask", lambda m: m.predict(iter([(X,)]), mask=np.ones((N, T), bool)), "mask: leave it out"),
    (
        "predict ragged with mask",
        lambda m: m.predict(Ragged.from_list([X[0], X[1, :2]]), mask=np.ones((2, T), bool)),
        "mask: leave it out",
    ),
    ("train_on_batch y None", lambda m: m.train_on_batch(X), "y is missing"),
    ("train_on_batch y shape", lambda m: m.train_on_batch(X, np.zeros((N, 2))), "(4, 2)", "(4, 1)"),
    ("train_on_batch y count", lambda m: m.train_on_batch(X, Y[:2]), "(2, 1)", "(4, 1)"),
    ("train_on_batch mask", lambda m: m.train_on_batch(X, Y, mask=np.ones((N, 4), bool)), "mask has shape (4, 4)"),
    ("train_on_batch weights", lambda m: m.train_on_batch(X, Y, sample_weight=np.ones(3)), "sample_weight has shape (3,)"),
    ("train_on_batch weights NaN", lambda m: m.train_on_batch(X, Y, sample_weight=np.full(N, NAN)), "holds NaN"),
    ("train_on_batch class_weight", lambda m: m.train_on_batch(X, Y, class_weight=[1]), "class_weight=[1]", "dict"),
    ("train_on_batch features", lambda m: m.train_on_batch(X[:, :, :2], Y), "(None, 5, 2)"),
    ("train_on_batch batch", lambda m: m.train_on_batch(X[:2], Y[:2]), "of 4 sequences", "reset_state"),
    ("test_on_batch y None", lambda m: m.test_on_batch(X), "y is missing"),
    ("test_on_batch y shape", lambda m: m.test_on_batch(X, np.zeros((N, 2))), "(4, 2)", "(4, 1)"),
    ("compute_gradients y", lambda m: m.compute_gradients(X, np.zeros((N, 2))), "(4, 2)", "(4, 1)"),
    ("predict_on_batch", lambda m: m.predict_on_batch(FLAT), "(None, 3)"),
    ("call mask", lambda m: m(X, mask=np.ones((N, T))), "mask has dtype float64"),
    ("set_weights count", lambda m: m.set_weights([]), "5 weights", "got 0"),
    ("set_weights None", lambda m: m.set_weights(None), "weights=None", "list"),
    (
        "set_weights last shape",
        lambda m: m.set_weights([*[w + 1 for w in m.get_weights()[:-1]], np.ones(5)]),
        "[(2, 1), (1,)]",
        "(5,)",
    ),
    (
        "set_weights last text",
        lambda m: m.set_weights([*[w + 1 for w in m.get_weights()[:-1]], np.array(["a"])]),
        "dtype <U1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), rows(OTHER_METHODS))
def test_method_of_a_model(call, words):
    made = model(optimizer="adam", stateful=True)
    made.train_on_batch(X, Y)
    before = state_of(made)
    refused(lambda: call(made), words)
    assert_unchanged(made, before)


def test_stream_that_fails_in_its_second_batch_leaves_states_of_the_first():
    """What one batch has done stays done, but half of a batch's work does not."""
    made, alone = (model(stateful=True) for _ in range(2))
    refused(lambda: made.fit(iter([(X, Y), (X, np.zeros((N, 2)))]), verbose=0), ["(4, 2)", "(4, 1)"])
    alone.train_on_batch(X, Y)
    np.testing.assert_array_equal(made.params, alone.params)
    np.testing.assert_equal(made.layers[0].states, alone.layers[0].states)


def test_evaluation_that_fails_leaves_states_alone():
    made = model(stateful=True)
    made.train_on_batch(X, Y)
    before = state_of(made)
    refused(lambda: made.evaluate(iter([(X, Y), (X, np.zeros((N, 2)))])), ["(4, 2)", "(4, 1)"])
    assert_unchanged(made, before)
    refused(lambda: made.predict(iter([(X,), (FLAT,)])), ["(None, None, 3)", "(None, 3)"])
    assert_unchanged(made, before)


def test_loss_that_is_not_finite_leaves_states_alone():
    from fastrnn.exceptions import NonFiniteLossError

    made = Sequential([layers.Bidirectional(layers.GRU(U, stateful=True)), layers.Dense(1)], seed=0)
    made.compile("sgd", "mse")
    made.train_on_batch(X, Y)
    before, states = state_of(made), copy.deepcopy(made.layers[0].states)
    with pytest.raises(NonFiniteLossError):
        made.train_on_batch(X * 2, Y * NAN)
    assert_unchanged(made, before)
    np.testing.assert_equal(made.layers[0].states, states)


def test_unrolled_layer_takes_ragged_input_like_a_looped_one():
    """Unrolling is no other kernel, so there is nothing to refuse."""
    x = Ragged.from_list([X[0], X[1, :2], X[2, :4]])
    for options in ({}, {"return_sequences": True}):
        looped, unrolled = (model(unroll=u, **options) for u in (False, True))
        np.testing.assert_array_equal(looped.predict(x), unrolled.predict(x))


# ------------------------------------------------------------------------------- what models are given

LEAVES = [
    ("EarlyStopping patience", lambda: cb.EarlyStopping(patience=-1), "patience=-1", "non-negative integer"),
    ("EarlyStopping patience text", lambda: cb.EarlyStopping(patience="a"), "patience='a'", "integer"),
    ("EarlyStopping mode", lambda: cb.EarlyStopping(mode="x"), "mode='x'", "'auto', 'min' or 'max'"),
    ("EarlyStopping monitor", lambda: cb.EarlyStopping(monitor=3), "monitor=3", "'val_loss'"),
    ("EarlyStopping min_delta", lambda: cb.EarlyStopping(min_delta="a"), "min_delta='a'", "number"),
    ("EarlyStopping baseline", lambda: cb.EarlyStopping(baseline="a"), "baseline='a'", "or None"),
    ("EarlyStopping start_from_epoch", lambda: cb.EarlyStopping(start_from_epoch=-1), "start_from_epoch=-1"),
    ("EarlyStopping restore", lambda: cb.EarlyStopping(restore_best_weights="x"), "restore_best_weights='x'"),
    ("EarlyStopping unknown", lambda: cb.EarlyStopping(foo=1), "foo"),
    ("ModelCheckpoint filepath", lambda: cb.ModelCheckpoint(3), "filepath=3", "path"),
    ("ModelCheckpoint field", lambda: cb.ModelCheckpoint("a{epoch"), "filepath='a{epoch'", "{epoch:02d}"),
    ("ModelCheckpoint save_freq", lambda: cb.ModelCheckpoint("a", save_freq=0), "save_freq=0", "'epoch'"),
    ("ModelCheckpoint mode", lambda: cb.ModelCheckpoint("a", mode="x"), "mode='x'", "'min'"),
    ("ModelCheckpoint threshold", lambda: cb.ModelCheckpoint("a", initial_value_threshold="x"), "threshold='x'"),
    ("ReduceLROnPlateau factor 1", lambda: cb.ReduceLROnPlateau(factor=1), "factor=1", "from 0 to below 1"),
    ("ReduceLROnPlateau factor", lambda: cb.ReduceLROnPlateau(factor=-1), "factor=-1", "from 0 to below 1"),
    ("ReduceLROnPlateau patience", lambda: cb.ReduceLROnPlateau(patience=-1), "patience=-1"),
    ("ReduceLROnPlateau cooldown", lambda: cb.ReduceLROnPlateau(cooldown=-1), "cooldown=-1"),
    ("ReduceLROnPlateau min_lr", lambda: cb.ReduceLROnPlateau(min_lr=-1), "min_lr=-1", "non-negative"),
    ("LearningRateScheduler", lambda: cb.LearningRateScheduler(3), "schedule=3", "function"),
    ("LambdaCallback value", lambda: cb.LambdaCallback(on_epoch_end=3), "on_epoch_end=3", "function"),
    ("LambdaCallback hook", lambda: cb.LambdaCallback(on_epch_end=print), "'on_epch_end'", "'on_epoch_end'"),
    ("CSVLogger filename", lambda: cb.CSVLogger(3), "filename=3", "path"),
    ("CSVLogger separator", lambda: cb.CSVLogger("a", separator=3), "separator=3", "one character"),
    ("L1", lambda: regularizers.L1("a"), "l1='a'", "non-negative"),
    ("L2 NaN", lambda: regularizers.L2(NAN), "l2=nan", "finite, non-negative"),
    ("L1L2", lambda: regularizers.L1L2(l1=INF), "l1=inf", "finite, non-negative"),
    ("orthogonal mode", lambda: regularizers.OrthogonalRegularizer(mode="x"), "mode='x'", "'rows' or 'columns'"),
    ("regularizer number", lambda: regularizers.get(3), "regularizer=3", "'l2'"),
    ("regularizer function", lambda: regularizers.get(lambda x: 0), "gradient(x)"),
    ("regularizer class", lambda: regularizers.get({"class_name": "L9"}), "'L9'", "'L1'"),
    ("MaxNorm", lambda: constraints.MaxNorm(-1), "max_value=-1", "non-negative"),
    ("MaxNorm axis", lambda: constraints.MaxNorm(2, "a"), "axis='a'", "integer"),
    ("MaxNorm axis 1.5", lambda: constraints.MaxNorm(2, 1.5), "axis=1.5", "integer"),
    ("MinMaxNorm order", lambda: constraints.MinMaxNorm(2, 1), "max_value=1", "at least 2"),
    ("MinMaxNorm low", lambda: constraints.MinMaxNorm(-1, 1), "min_value=-1", "non-negative"),
    ("MinMaxNorm rate", lambda: constraints.MinMaxNorm(0, 1, 2.0), "rate=2.0", "from 0 to 1"),
    ("UnitNorm", lambda: constraints.UnitNorm("a"), "axis='a'", "integer"),
    ("constraint number", lambda: constraints.get(3), "constraint=3", "'max_norm'"),
    ("constraint name", lambda: constraints.get("x"), "constraint='x'", "'max_norm'"),
    ("ExponentialDecay rate", lambda: schedules.ExponentialDecay("a", 10, 0.5), "initial_learning_rate='a'"),
    ("ExponentialDecay negative", lambda: schedules.ExponentialDecay(-0.1, 10, 0.5), "initial_learning_rate=-0.1"),
    ("ExponentialDecay steps", lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps=0", "positive"),
    ("ExponentialDecay steps text", lambda: schedules.ExponentialDecay(0.1, "a", 0.5), "decay_steps='a'"),
    ("ExponentialDecay decay", lambda: schedules.ExponentialDecay(0.1, 10, -1), "decay_rate=-1", "non-negative"),
    ("InverseTimeDecay", lambda: schedules.InverseTimeDecay(0.1, 10, "a"), "decay_rate='a'"),
    ("Piecewise count", lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1]), "values=[0.1]", "one more"),
    ("Piecewise order", lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 2, 3]), "boundaries=[2, 1]", "ascending"),
    ("Piecewise text", lambda: schedules.PiecewiseConstantDecay([1], ["a", 0.1]), "values[0]='a'"),
    ("Piecewise number", lambda: schedules.PiecewiseConstantDecay(3, [0.1]), "boundaries=3", "list"),
    ("PolynomialDecay power", lambda: schedules.PolynomialDecay(0.1, 10, power="a"), "power='a'"),
    ("PolynomialDecay end", lambda: schedules.PolynomialDecay(0.1, 10, -1), "end_learning_rate=-1"),
    ("CosineDecay steps", lambda: schedules.CosineDecay(0.1, 0), "decay_steps=0", "positive"),
    ("CosineDecay alpha", lambda: schedules.CosineDecay(0.1, 10, alpha="a"), "alpha='a'"),
    ("CosineDecay warm-up", lambda: schedules.CosineDecay(0.1, 10, warmup_steps=5), "warmup_steps=5", "warmup_target"),
    ("CosineDecay negative", lambda: schedules.CosineDecay(0.1, 9, warmup_steps=-1), "warmup_steps=-1"),
    ("CosineDecayRestarts", lambda: schedules.CosineDecayRestarts(0.1, 10, t_mul=0), "t_mul=0", "at least 1"),
    ("schedule name", lambda: schedules.get("x"), "'x'", "'CosineDecay'"),
    ("RandomNormal", lambda: initializers.RandomNormal(stddev=-1), "stddev=-1", "non-negative"),
    ("RandomNormal seed", lambda: initializers.RandomNormal(seed="a"), "seed='a'"),
    ("RandomUniform order", lambda: initializers.RandomUniform(1, 0), "maxval=0", "at least 1"),
    ("Orthogonal", lambda: initializers.Orthogonal("a"), "gain='a'"),
    ("Constant", lambda: initializers.Constant("a"), "value='a'"),
    ("VarianceScaling scale", lambda: initializers.VarianceScaling(-1), "scale=-1", "positive"),
    ("VarianceScaling mode", lambda: initializers.VarianceScaling(mode="x"), "mode='x'", "'fan_in'"),
    ("VarianceScaling kind", lambda: initializers.VarianceScaling(distribution=3), "distribution=3", "'uniform'"),
    ("initializer name", lambda: initializers.get("x"), "initializer='x'", "'orthogonal'"),
    ("SGD rate", lambda: optimizers.SGD("a"), "learning_rate='a'", "schedule"),
    ("SGD rate negative", lambda: optimizers.SGD(-1), "learning_rate=-1", "non-negative"),
    ("SGD rate NaN", lambda: optimizers.SGD(NAN), "learning_rate=nan", "finite"),
    ("SGD function of two", lambda: optimizers.SGD(lambda a, b: 0.1), "learning_rate=", "step number"),
    ("SGD momentum", lambda: optimizers.SGD(momentum=2), "momentum=2", "from 0 to 1"),
    ("SGD nesterov", lambda: optimizers.SGD(nesterov="x"), "nesterov='x'", "True or False"),
    ("SGD lr", lambda: optimizers.SGD(lr=0.1), "unknown argument 'lr'", "'learning_rate'"),
    ("clipnorm text", lambda: optimizers.SGD(clipnorm="a"), "clipnorm='a'", "or None"),
    ("clipnorm negative", lambda: optimizers.Adam(clipnorm=-1), "clipnorm=-1", "non-negative number or None"),
    ("two kinds of clipping", lambda: optimizers.SGD(clipnorm=1, clipvalue=1), "clipnorm=1, clipvalue=1", "only one"),
    ("weight_decay", lambda: optimizers.Adam(weight_decay="a"), "weight_decay='a'"),
    ("use_ema", lambda: optimizers.SGD(use_ema=True), "use_ema=True", "leave it out"),
    ("Adam beta", lambda: optimizers.Adam(beta_1=1.5), "beta_1=1.5", "from 0 to 1"),
    ("Adam epsilon", lambda: optimizers.Adam(epsilon=-1), "epsilon=-1", "non-negative"),
    ("RMSprop rho", lambda: optimizers.RMSprop(rho="a"), "rho='a'", "from 0 to 1"),
    ("RMSprop epsilon", lambda: optimizers.RMSprop(epsilon=None), "epsilon=None", "number"),
    ("Adagrad start", lambda: optimizers.Adagrad(initial_accumulator_value=-1), "initial_accumulator_value=-1"),
    ("optimizer's name", lambda: optimizers.SGD(name=3), "name=3", "string"),
    ("optimizer", lambda: optimizers.get("x"), "optimizer='x'", "'adam'"),
    ("Huber", lambda: losses.Huber(delta="a"), "delta='a'", "positive"),
    ("label_smoothing", lambda: losses.BinaryCrossentropy(label_smoothing=2), "label_smoothing=2", "from 0 to 1"),
    ("from_logits", lambda: losses.BinaryCrossentropy(from_logits="x"), "from_logits='x'", "True or False"),
    ("ignore_class", lambda: losses.SparseCategoricalCrossentropy(ignore_class="x"), "ignore_class='x'"),
    ("reduction", lambda: losses.MeanSquaredError(reduction="x"), "reduction='x'", "'sum'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), rows(LEAVES))
def test_what_models_are_given(call, words):
    refused(call, words)


@pytest.mark.parametrize(
    "callback",
    [cb.ReduceLROnPlateau("loss"), cb.LearningRateScheduler(lambda epoch: 0.1)],
    ids=["ReduceLROnPlateau", "LearningRateScheduler"],
)
def test_rate_that_follows_a_schedule_can_t_be_set_by_a_callback(callback):
    made = model(optimizer=optimizers.SGD(schedules.CosineDecay(0.1, 10)))
    before = state_of(made)
    refused(lambda: made.fit(X, Y, verbose=0, callbacks=[callback]), ["schedule", "leave the callback out"])
    assert_unchanged(made, before)


@pytest.mark.parametrize("rate", ["a", NAN, -1.0, None, INF])
def test_rate_that_a_function_gives_is_looked_at_before_the_update(rate):
    made = model(optimizer=optimizers.SGD(lambda step: rate))
    before = made.params.copy()
    refused(lambda: made.fit(X, Y, verbose=0), [f"gave {rate!r}", "non-negative number"])
    np.testing.assert_array_equal(made.params, before)


def test_error_in_a_user_s_schedule_is_told_as_it_is():
    """Its own TypeError is not taken for a function of fewer arguments."""

    def schedule(epoch, rate):
        return rate + "1"

    with pytest.raises(TypeError, match=r"unsupported operand|concatenate"):
        model().fit(X, Y, verbose=0, callbacks=[cb.LearningRateScheduler(schedule)])
