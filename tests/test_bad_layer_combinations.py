"""What can't work in layers is refused before any work.

Rows about objects that exist already are checked to leave them as they were: weights, states, configuration.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fastrnn import constraints, layers
from tests.refusals import (
    FLAT,
    NAN,
    TOKENS,
    F,
    N,
    NoCall,
    NoState,
    T,
    TextSize,
    U,
    WrongStart,
    X,
    refused,
    rows,
    zeros,
)

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
        "opposite directions",
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
    ("StackedRNNCells one twice", lambda: layers.StackedRNNCells([layers.LSTMCell(U)] * 2), "cells[1]", "another cell"),
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
    ("TimeDistributed Input", lambda: layers.TimeDistributed(layers.Input((3,))), "first layer of a model"),
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
# Calls of a layer with the given state sizes, and words of the message; each call gets the layer and its sizes.
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
    """A layer without weights gets none, and a layer with states keeps them, in both directions and every cell."""
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


def test_backward_direction_s_state_is_checked_before_the_forward_one_runs():
    layer = layers.Bidirectional(layers.LSTM(U, stateful=True))
    layer(X)
    before = snapshot(layer)
    refused(lambda: layer(X, initial_state=zeros(U, U, U, 7)), ["has shape (4, 7)", "(4, 2)"])
    assert_as_before(layer, before)
    refused(lambda: layer(X, initial_state=zeros(U, U)), ["initial_state has 2 arrays", "(2)"])
    assert_as_before(layer, before)


def test_initial_state_of_a_user_s_cell_is_checked():
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
    """No array is set if one of them is wrong."""
    layer = SINGLE[name][0]() if name in SINGLE else layers.Dense(U)
    layer.build((None, None, F))
    before = snapshot(layer)
    refused(lambda: layer.set_weights(spoil(layer.get_weights())), words)
    assert_as_before(layer, before)
