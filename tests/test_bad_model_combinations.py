"""Bad combinations in models and bad arguments of them are refused before any work.

Rows about objects that exist already are checked to leave them as they were: weights, states, configuration.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fastrnn import Sequential, constraints, initializers, layers, losses, optimizers, regularizers, schedules
from fastrnn import callbacks as cb
from fastrnn.sequences import Ragged
from tests.refusals import FLAT, INF, NAN, REFUSALS, F, Hook, N, T, U, X, Y, refused, rows

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
    """A compiled model keeps the settings that it was compiled with."""
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
    """The updates of completed batches are kept, those of the failed batch are not."""
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
def test_rate_from_a_function_is_checked_before_the_update(rate):
    made = model(optimizer=optimizers.SGD(lambda step: rate))
    before = made.params.copy()
    refused(lambda: made.fit(X, Y, verbose=0), [f"gave {rate!r}", "non-negative number"])
    np.testing.assert_array_equal(made.params, before)


def test_error_in_a_user_s_schedule_is_raised_unchanged():
    """A TypeError raised in it is not mistaken for a function with fewer arguments."""

    def schedule(epoch, rate):
        return rate + "1"

    with pytest.raises(TypeError, match=r"unsupported operand|concatenate"):
        model().fit(X, Y, verbose=0, callbacks=[cb.LearningRateScheduler(schedule)])
