"""Sequential: building, one vector for all weights, fitting, masks, weights, copies, summary, bad input."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import Sequential, callbacks, layers, optimizers, regularizers
from fastrnn.exceptions import NonFiniteLossError, NotBuiltError, NotCompiledError
from fastrnn.training.data import Batches, class_weights

F64 = {"dtype": "float64"}


def token_model(n_outputs=1, activation="sigmoid", **options):
    return Sequential(
        [
            layers.Embedding(20, 4, **F64),
            layers.Flatten(**F64),
            layers.Dense(6, activation="tanh", **F64, **options),
            layers.Dense(n_outputs, activation=activation, **F64),
        ],
        seed=3,
    )


@pytest.fixture
def tokens(rng):
    x = rng.integers(0, 20, (40, 5))
    return x, (x[:, :1] > 9).astype(float)


# -- building


def test_import_is_light():
    code = (
        "import sys, fastrnn; heavy = {'numba', 'sklearn', 'tqdm', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_input_builds_at_once():
    model = Sequential([layers.Input((4,)), layers.Dense(3), layers.Dense(2)])
    assert model.built
    assert model.count_params() == 15 + 8
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]


def test_build_is_put_off_until_the_shape_is_known(rng):
    model = Sequential([layers.Dense(2)])
    assert not model.built
    with pytest.raises(NotBuiltError, match="no weights yet"):
        _ = model.params
    assert model(rng.normal(size=(3, 5))).shape == (3, 2)
    assert model.count_params() == 12


def test_layers_share_one_vector(rng):
    model = token_model()
    model.build((None, 5))
    total = sum(w.size for layer in model.layers for w in layer._weights.values())
    assert model.params.shape == model.grads.shape == (total,)
    for layer in model.layers:
        for name, w in layer._weights.items():
            assert np.shares_memory(w, model.params)
            assert np.shares_memory(layer._grads[name], model.grads)
    values = rng.normal(size=total)
    model.params = values
    np.testing.assert_array_equal(np.concatenate([w.ravel() for w in model.get_weights()]), values)


def test_params_refuse_writes_that_kernels_would_not_see(rng):
    model = Sequential([layers.GRU(4), layers.Dense(1)], seed=0)
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    before = model.predict(x)
    with pytest.raises(ValueError, match="read-only"):
        model.params[...] *= 0.5
    with pytest.raises(ValueError, match=r"params has shape \(3,\): the model has"):
        model.params = np.zeros(3)
    np.testing.assert_array_equal(model.predict(x), before)
    twin = model.copy()
    model.params = model.params * 0.5
    twin.set_weights([w * 0.5 for w in twin.get_weights()])
    np.testing.assert_array_equal(model.predict(x), twin.predict(x))
    assert not np.array_equal(model.predict(x), before)


def test_weights_survive_adding_a_layer(tokens):
    model = Sequential([layers.Input((5,)), layers.Dense(3, **F64)])
    kernel = model.get_weights()[0]
    _ = model.params
    model.add(layers.Dense(2, **F64))
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    assert model.params.size == 18 + 8
    model.pop()
    assert model.params.size == 18


def test_seed_makes_runs_repeat(tokens):
    def run(seed):
        model = (
            token_model() if seed is None else Sequential([layers.Dropout(0.5), layers.Dense(1)], seed=seed)
        )
        model.compile("adam", "mse")
        return model.fit(*tokens, epochs=2, batch_size=8, verbose=0).history["loss"]

    assert run(5) == run(5)
    assert run(5) != run(6)
    fastrnn.set_random_seed(1)
    first = Sequential([layers.Input((3,)), layers.Dense(2)]).params
    fastrnn.set_random_seed(1)
    np.testing.assert_array_equal(first, Sequential([layers.Input((3,)), layers.Dense(2)]).params)


# -- gradients and steps

ENDS = {
    "bce": (1, "sigmoid", "binary_crossentropy"),
    "bce-2": (2, "sigmoid", "binary_crossentropy"),
    "cce": (3, "softmax", "categorical_crossentropy"),
    "scce": (3, "softmax", "sparse_categorical_crossentropy"),
    "mse": (2, None, "mse"),
    "mse-softmax": (3, "softmax", "mse"),
    "bce-tanh-free": (2, "linear", "huber"),
}


def targets(loss, n_outputs, n, rng):
    if loss.startswith("sparse"):
        return rng.integers(0, n_outputs, n)
    if loss.startswith("categorical"):
        return np.eye(n_outputs)[rng.integers(0, n_outputs, n)]
    return rng.integers(0, 2, (n, n_outputs)).astype(float)


@pytest.mark.parametrize("penalised", [False, True], ids=["plain", "penalised"])
@pytest.mark.parametrize("end", ENDS)
def test_model_gradient_matches_finite_difference(end, penalised, rng):
    n_outputs, activation, loss = ENDS[end]
    options = {}
    if penalised:
        options = {
            "kernel_regularizer": "l2",
            "bias_regularizer": regularizers.L1(0.1),
            "activity_regularizer": regularizers.L2(0.3),
        }
    model = token_model(n_outputs, activation, **options)
    if penalised:
        # On the last layer too, where the shortcut from logits must not be taken.
        model.layers[-1].activity_regularizer = regularizers.L2(0.2)
        model.layers[0]._regularizers["embeddings"] = regularizers.L2(0.1)
    model.build((None, 5))
    model.compile("sgd", loss)
    x = rng.integers(0, 20, (7, 5))
    y, weight = targets(loss, n_outputs, 7, rng), rng.uniform(0.5, 2, 7)
    model.params = rng.normal(size=model.params.size) * 0.5
    value = model.compute_gradients(x, y, weight)
    grads = model.grads.copy()
    assert value == pytest.approx(model.test_on_batch(x, y, weight))
    for i in rng.choice(grads.size, 60, replace=False):
        start = model.params.copy()
        sides = []
        for step in (1e-6, -1e-6):
            model.params = start + step * (np.arange(start.size) == i)
            sides.append(model.test_on_batch(x, y, weight))
        model.params = start
        assert grads[i] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-7)


def test_layer_that_is_not_trained_stays(tokens):
    model = token_model()
    model.build((None, 5))
    model.layers[0].trainable = False
    model.compile("adam", "binary_crossentropy")
    before = model.get_weights()
    model.fit(*tokens, epochs=1, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])
    model.layers[0].trainable, model.layers[2].trainable = True, False
    model.compile("adam", "binary_crossentropy")
    model.fit(*tokens, epochs=1, verbose=0)
    assert not np.array_equal(model.get_weights()[0], after[0])
    np.testing.assert_array_equal(model.get_weights()[1], after[1])


def test_constraint_holds_after_each_step(tokens):
    model = token_model(kernel_constraint="unit_norm")
    model.compile("sgd", "binary_crossentropy")
    model.fit(*tokens, epochs=1, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(model.get_weights()[1], axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad", "adam"])
def test_token_table_trained_by_rows_matches_dense(optimizer, tokens):
    """Updating only the rows in use gives the numbers of updating the whole table."""
    models = []
    for sparse in (True, False):
        model = token_model()
        if not sparse:
            type(model.layers[0])
            model.layers[0].__class__ = type("Dense_", (layers.Embedding,), {"sparse_tables": ()})
        model.build((None, 5))
        model.compile(optimizer, "binary_crossentropy")
        assert bool(model.plan.tables) == sparse
        model.fit(*tokens, batch_size=4, epochs=3, verbose=0)
        models.append(model)
    np.testing.assert_allclose(models[0].params, models[1].params, rtol=1e-9, atol=1e-12)


def test_versions_of_weights_grow_with_each_step(tokens):
    model = token_model()
    model.compile("sgd", "binary_crossentropy")
    model.build((None, 5))
    before = model.layers[2].weights_version
    model.train_on_batch(*tokens)
    assert model.layers[2].weights_version > before


def test_bad_batch_leaves_the_weights(rng):
    model = Sequential([layers.Input((2,)), layers.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    before = model.params.copy()
    with pytest.raises(NonFiniteLossError, match="not changed"):
        model.train_on_batch(np.array([[np.inf, 0]]), np.zeros((1, 1)))
    np.testing.assert_array_equal(model.params, before)


# -- fit


def test_history_has_the_keys_of_keras(tokens):
    model = token_model()
    model.compile("adam", "binary_crossentropy", metrics=["accuracy", "mse"], weighted_metrics=["acc"])
    history = model.fit(*tokens, epochs=2, validation_split=0.25, verbose=0)
    names = ["loss", "accuracy", "mse", "acc"]
    assert list(history.history) == [*names, *(f"val_{n}" for n in names)]
    assert history.epoch == [0, 1]
    assert model.history is history
    assert model.metrics_names == names


def test_validation_takes_the_last_samples(rng):
    x = np.arange(10.0)[:, None]
    seen = Batches(x, x, None, 4)
    train, held = seen.split(0.3)
    assert [b[0].ravel().tolist() for b in held.epoch()] == [[7, 8, 9]]
    got = np.concatenate([b[0].ravel() for b in train.epoch(rng, True)])
    np.testing.assert_array_equal(np.sort(got), np.arange(7.0))
    assert not np.array_equal(got, np.arange(7.0))


@pytest.mark.parametrize("fraction", [1.0, -0.1, 0.999])
def test_validation_split_bad(fraction, tokens):
    model = token_model()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="validation_split="):
        model.fit(*tokens, validation_split=fraction, verbose=0)


def test_batches_are_views_when_not_shuffled():
    x = np.zeros((10, 3))
    assert all(np.shares_memory(x, b[0]) for b in Batches(x, x, None, 4).epoch())
    assert [len(b[0]) for b in Batches(x, x, None, 4).epoch()] == [4, 4, 2]


def test_shuffle_batch_stays_within_batches(rng):
    x = np.arange(12)[:, None]
    parts = [np.sort(b[0].ravel()).tolist() for b in Batches(x, x, None, 4).epoch(rng, "batch")]
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_iterable_of_batches(tokens):
    x, y = tokens
    parts = [(x[:20], y[:20]), (x[20:], y[20:])]
    whole, parted = token_model(), token_model()
    for model in (whole, parted):
        model.compile("sgd", "binary_crossentropy")
    a = whole.fit(x, y, batch_size=20, epochs=3, shuffle=False, verbose=0).history["loss"]
    assert parted.fit(parts, epochs=3, verbose=0).history["loss"] == a
    np.testing.assert_array_equal(parted.predict([(x[:20],), (x[20:],)]), whole.predict(x, batch_size=20))

    def endless():
        while True:
            yield from parts

    again = token_model()
    again.compile("sgd", "binary_crossentropy")
    assert again.fit(endless(), epochs=3, steps_per_epoch=2, verbose=0).history["loss"] == a


def test_initial_epoch_and_frequency(tokens):
    model = token_model()
    model.compile("sgd", "binary_crossentropy")
    history = model.fit(
        *tokens, epochs=6, initial_epoch=2, validation_split=0.2, validation_freq=2, verbose=0
    )
    assert history.epoch == [2, 3, 4, 5]
    assert len(history.history["val_loss"]) == 2


def test_class_weight_is_sample_weight(tokens):
    x, y = tokens
    runs = []
    for options in ({"class_weight": {0: 1.0, 1: 3.0}}, {"sample_weight": np.where(y[:, 0] == 1, 3.0, 1.0)}):
        model = token_model()
        model.compile("sgd", "binary_crossentropy")
        runs.append(model.fit(x, y, epochs=2, verbose=0, **options).history["loss"])
    assert runs[0] == pytest.approx(runs[1])
    np.testing.assert_array_equal(class_weights(np.eye(3)[[0, 2]], {2: 5.0}, (None, 3)), [1, 5])
    np.testing.assert_array_equal(
        class_weights(np.array([[1, 0], [1, 1]])[..., None], {1: 2.0}, (None, 2, 1)), [[2, 1], [2, 2]]
    )


def test_mask_reaches_loss_and_metrics(rng):
    x = rng.normal(size=(3, 4, 2))
    x[0, 2:] = x[2, 1:] = 0
    y = rng.integers(0, 2, (3, 4, 1)).astype(float)
    model = Sequential([layers.Masking(**F64), layers.Dense(1, activation="sigmoid", **F64)], seed=1)
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(x, y)
    valid = (x != 0).any(-1)
    p = model.predict(x)[valid]
    t = y[valid]
    assert loss == pytest.approx(-np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)))
    assert accuracy == pytest.approx(np.mean((p > 0.5) == t))


@pytest.mark.parametrize("hidden", [False, True], ids=["all", "all but one"])
def test_only_a_mask_that_hides_something_reaches_the_layers(hidden, rng, monkeypatch):
    x, y = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 5, 2))
    mask = np.ones((4, 5), bool)
    mask[1, 4] = not hidden
    models = [Sequential([layers.SimpleRNN(2, return_sequences=True, **F64)], seed=0) for _ in range(2)]
    for model in models:
        model.compile("sgd", "mse", metrics=["mae"])
    seen, cell = [], models[0].layers[0].cell
    forward = cell.forward_sequence

    def watched(x, mask, *others):
        seen.extend([] if mask is None else [mask])
        return forward(x, mask, *others)

    monkeypatch.setattr(cell, "forward_sequence", watched)
    logs = [m.train_on_batch(x, y, mask=given) for m, given in zip(models, (mask, None), strict=True)]
    assert len(seen) == hidden
    assert (logs[0] == logs[1]) == (not hidden)
    assert np.array_equal(models[0].params, models[1].params) == (not hidden)
    for wrong in (mask[:, 1:], mask.astype(int)):
        with pytest.raises((ValueError, TypeError), match="mask has"):
            models[0].train_on_batch(x, y, mask=wrong)


def test_loss_uses_no_more_threads_than_the_layers(rng):
    stack = [layers.LSTM(3, return_sequences=True), layers.TimeDistributed(layers.Dense(2))]
    model = Sequential(stack, seed=0)
    model.compile("sgd", "mse")
    for n, expected in ((1, 1), (3, 3), (None, None)):
        stack[0].n_threads = n
        model.train_on_batch(rng.normal(size=(4, 5, 3)), np.zeros((4, 5, 2)))
        assert model.loss.n_threads == expected


def test_mask_can_be_given(rng):
    x, y = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4, 1))
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    model = Sequential([layers.Dense(1, **F64)], seed=1)
    model.compile("sgd", "mse")
    value = model.test_on_batch(x, y, mask=mask)
    assert value == pytest.approx(np.mean((model(x) - y)[mask] ** 2))
    assert model.train_on_batch(x, y, mask=mask) == pytest.approx(value)


def test_fit_makes_no_copy_of_the_data(rng):
    import tracemalloc

    x, y = np.zeros((4000, 500), np.float32), np.zeros((4000, 1), np.float32)
    model = Sequential([layers.Input((500,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(
        x[:640], y[:640], verbose=0, validation_split=0.1
    )  # what is compiled and imported is no part of it
    tracemalloc.start()
    model.fit(x, y, verbose=0, validation_split=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4


def test_single_batches_return_their_own_metrics(tokens):
    x, y = tokens
    model = token_model()
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    before = model.test_on_batch(x[20:], y[20:])
    assert before == pytest.approx(model.evaluate(x[20:], y[20:]))
    model.train_on_batch(x[:20], y[:20])
    expected = model.evaluate(x[20:], y[20:])
    assert model.train_on_batch(x[20:], y[20:]) == pytest.approx(expected)
    assert set(model.train_on_batch(x, y, return_dict=True)) == {"loss", "accuracy"}


# -- recurrent layers in a model


@pytest.mark.parametrize("n_outputs", ["last", "each step"])
def test_ragged_matches_each_sequence_alone(n_outputs, rng):
    sequences = [rng.normal(size=(n, 2)) for n in (3, 1, 5, 2)]
    ragged = fastrnn.Ragged.from_list(sequences)
    each = n_outputs == "each step"
    model = Sequential([layers.GRU(3, return_sequences=each, **F64), layers.Dense(1, **F64)], seed=2)
    result = model.predict(ragged, batch_size=3)
    assert result.shape == ((4, 5, 1) if each else (4, 1))
    for row, sequence in zip(result, sequences, strict=True):
        alone = model(sequence[None])[0]
        if each:
            np.testing.assert_allclose(row[: len(sequence)], alone, rtol=1e-12)
        else:
            np.testing.assert_allclose(row, alone, rtol=1e-12)


@pytest.mark.parametrize("per_step", [False, True])
def test_ragged_training_matches_masked(per_step, rng):
    """Ragged input trains as the padded array with its mask does, one sequence a batch or all in one."""
    sequences = [rng.normal(size=(n, 2)) for n in (3, 1, 5, 2)]
    ragged = fastrnn.Ragged.from_list(sequences)
    x, mask = ragged.take(slice(None))
    y = rng.normal(size=(4, 5, 1)) if per_step else rng.normal(size=(4, 1))
    y_ragged = fastrnn.Ragged.from_list([row[: len(s)] for row, s in zip(y, sequences, strict=True)])
    models = []
    for _ in range(2):
        model = Sequential([layers.LSTM(3, return_sequences=per_step, **F64), layers.Dense(1, **F64)], seed=2)
        model.compile("sgd", "mse")
        model.build((None, None, 2))
        models.append(model)
    models[0].fit(ragged, y_ragged if per_step else y, batch_size=4, shuffle=False, verbose=0)
    models[1].train_on_batch(x, y, mask=mask)
    np.testing.assert_allclose(models[0].params, models[1].params, rtol=1e-12)


def test_states_are_carried_and_reset(rng):
    x = rng.normal(size=(2, 6, 3))
    model = Sequential([layers.LSTM(4, stateful=True, return_sequences=True, **F64), layers.Dense(1, **F64)])
    whole = model.predict_on_batch(x)
    model.reset_states()
    parts = [model.predict_on_batch(part) for part in (x[:, :2], x[:, 2:])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-12)
    with pytest.raises(ValueError, match="batch"):
        model.predict_on_batch(x[:1])


def test_return_state_in_a_row_of_layers():
    with pytest.raises(ValueError, match="return_state=True, which gives several outputs"):
        Sequential([layers.LSTM(4, return_state=True)])


def test_parameters_of_published_models():
    first = Sequential([layers.Embedding(1000, 64), layers.LSTM(128), layers.Dense(10)])
    assert [layer.count_params() for layer in first.layers] == [64000, 98816, 1290]
    second = [layers.GRU(256, return_sequences=True), layers.SimpleRNN(128), layers.Dense(10)]
    assert Sequential([layers.Embedding(1000, 64), *second]).count_params() == 361866
    stack = [layers.SimpleRNN(32, return_sequences=k < 3) for k in range(4)]
    assert Sequential([layers.Embedding(10000, 32), *stack]).count_params() == 328320


# -- copies, files, configuration


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "file"])
def test_copies_go_on_alike(how, tokens, tmp_path):
    model = token_model()
    model.compile(optimizers.RMSprop(0.01, centered=True), "binary_crossentropy", metrics=["accuracy", "auc"])
    model.fit(*tokens, epochs=2, batch_size=8, verbose=0)
    if how == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif how == "deepcopy":
        again = copy.deepcopy(model)
    else:
        model.save(tmp_path / "m.fastrnn")
        again = fastrnn.load_model(tmp_path / "m.fastrnn")
    assert not np.shares_memory(again.params, model.params)
    assert np.shares_memory(again.params, again.layers[0]._weights["embeddings"])
    one, other = (m.fit(*tokens, epochs=2, batch_size=8, verbose=0) for m in (model, again))
    assert one.history == other.history
    np.testing.assert_array_equal(again.params, model.params)


def test_pickle_holds_the_weights_once(rng):
    model = Sequential([layers.Input((300,)), layers.Dense(1000)])
    model.compile("sgd", "mse")
    assert len(pickle.dumps(model)) < 1.2 * model.params.nbytes


def test_config_round_trip(tokens):
    import json

    model = token_model(kernel_regularizer="l2")
    again = Sequential.from_config(json.loads(json.dumps(model.get_config())))
    assert again.get_config() == model.get_config()
    again.build((None, 5))
    model.build((None, 5))
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(tokens[0]), model.predict(tokens[0]))


def test_summary_counts(capsys):
    model = Sequential([layers.Embedding(1000, 64), layers.Dense(10)], name="net")
    model.summary()
    text = capsys.readouterr().out
    for part in ('Model: "net"', "64,000", "650", "Total params: 64,650 (252.54 KB)", "(None, None, 10)"):
        assert part in text
    assert "Non-trainable params: 0 (0.00 B)" in text
    lines = []
    Sequential([layers.Dense(2)]).summary(print_fn=lines.append, show_trainable=True)
    assert "0 (unbuilt)" in lines[0]


# -- bad input


def test_bad_layers():
    with pytest.raises(TypeError, match="give objects from fastrnn.layers"):
        Sequential([3])
    same = layers.Dense(1)
    with pytest.raises(ValueError, match="is in the model already"):
        Sequential([same, same])
    with pytest.raises(ValueError, match="name='a' is taken"):
        Sequential([layers.Dense(1, name="a"), layers.Dense(1, name="a")])
    with pytest.raises(ValueError, match="the same dtype"):
        Sequential([layers.Dense(1), layers.Dense(1, dtype="float64")])
    with pytest.raises(ValueError, match="must come first"):
        Sequential([layers.Dense(1), layers.Input((3,))])
    with pytest.raises(ValueError, match="no layers"):
        Sequential().predict(np.ones((2, 2)))


def compiled():
    model = Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


X, Y = np.ones((6, 3)), np.ones((6, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.fit(X, Y[:4]), "x has 6 samples, y has 4"),
        (lambda m: m.fit(X, Y, sample_weight=np.ones(5)), "sample_weight has 5"),
        (lambda m: m.fit(X[:0], Y[:0]), "x holds no samples"),
        (lambda m: m.fit(X), "y is missing"),
        (lambda m: m.fit(X[:, :2], Y), r"takes inputs of shape \(None, 3\), got \(None, 2\)"),
        (lambda m: m.predict(np.ones((6, 3, 1))), "takes inputs of shape"),
        (lambda m: m.predict(np.ones(3)), "at least two axes"),
        (lambda m: m.fit(X, np.ones((6, 2))), r"y has shape \(6, 2\), the predictions have \(6, 1\)"),
        (lambda m: m.fit(X, Y, batch_size=0), "batch_size=0: give a positive integer"),
        (lambda m: m.fit(X, Y, validation_data=(X,)), "validation_data has 1 parts"),
        (lambda m: m.fit(X, Y, class_weight={0: 1}, sample_weight=np.ones(6)), "not both"),
        (lambda m: m.set_weights([X]), "the model has 2 weights, got 1"),
        (lambda m: m.get_layer("x"), r"name='x': the layers are \['dense'\]"),
        (lambda m: m.compile("sgd", "mse", metrics=["f1"]), "metrics='f1'"),
        (lambda m: m.predict(X, mask=np.ones((6, 2))), "mask has dtype"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(compiled())


def test_not_compiled():
    model = Sequential([layers.Input((3,)), layers.Dense(1)])
    with pytest.raises(NotCompiledError, match=r"fit\(\) needs a loss: call compile"):
        model.fit(X, Y)
    model.compile("sgd")
    with pytest.raises(NotCompiledError, match="give compile"):
        model.evaluate(X, Y)


def test_stop_training_from_a_callback(tokens):
    model = token_model()
    model.compile("sgd", "binary_crossentropy")

    class Stop(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    assert model.fit(*tokens, epochs=9, callbacks=[Stop()], verbose=0).epoch == [0, 1]


# -- Keras

STEPS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("SGD", {"clipnorm": 0.05}),
    ("RMSprop", {"clipvalue": 0.001}),
    ("Adagrad", {"global_clipnorm": 0.01}),
]
FORMS = {
    "plain": {},
    "penalised": {
        "kernel_regularizer": "l2",
        "activity_regularizer": "l1",
        "kernel_constraint": "MaxNorm",
    },
}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["bce", "cce", "scce", "mse"])
@pytest.mark.parametrize("optimizer", STEPS, ids=lambda o: f"{o[0]}-{'-'.join(o[1]) or 'default'}")
def test_training_matches_keras(optimizer, end, form, rng):
    """Same weights in, same history and same weights out."""
    from tests import keras_oracle

    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))
    n_outputs, activation, loss = ENDS[end]
    x = rng.integers(0, 20, (24, 5))
    y, weight = targets(loss, n_outputs, 24, rng), rng.uniform(0.5, 2, 24)
    outcomes = []
    weights = None
    for library, module in ((keras, keras.layers), (optimizers, layers)):
        parts = [
            module.Embedding(20, 4, **F64),
            module.Flatten(**F64),
            module.Dense(6, activation="tanh", **F64, **FORMS[form]),
            module.Dense(n_outputs, activation=activation, **F64),
        ]
        mine = module is layers
        model = Sequential(parts) if mine else keras.Sequential(parts)
        model.build((None, 5))
        name, options = optimizer
        how = getattr(library if mine else keras.optimizers, name)(**options)
        model.compile(how, loss, metrics=["mae"] if end == "mse" else ["accuracy"])
        if weights is None:
            weights = [np.array(w) for w in model.get_weights()]
        else:
            model.set_weights(weights)
        history = model.fit(
            x, y, batch_size=5, epochs=2, shuffle=False, verbose=0, sample_weight=weight, validation_split=0.2
        )
        outcomes.append((history.history, [np.array(w) for w in model.get_weights()]))
    (theirs, their_weights), (ours, our_weights) = outcomes
    assert set(theirs) == set(ours)
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-6, err_msg=key)
    for a, b in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", optimizers.SGD(0.1, momentum=0.9)], ids=str)
def test_batch_in_which_nothing_counts_makes_no_update(optimizer, rng):
    """Weights of 0 for all samples, or for all steps; every step masked: moments must not move the weights."""
    x, y = rng.normal(size=(8, 5, 3)), rng.normal(size=(8, 5, 1))
    model = Sequential([layers.GRU(4, return_sequences=True), layers.Dense(1)], seed=0)
    model.compile(optimizer, "mse")
    for _ in range(3):
        model.train_on_batch(x, y)
    before = model.params.copy()
    updates = model.optimizer.iterations
    assert model.train_on_batch(x, y, sample_weight=np.zeros(8)) == 0
    model.train_on_batch(x, y, sample_weight=np.zeros((8, 5)))
    model.train_on_batch(x, y, mask=np.zeros((8, 5), bool))
    model.fit(x, y, sample_weight=np.zeros(8), verbose=0)
    np.testing.assert_array_equal(model.params, before)
    assert model.optimizer.iterations == updates
    model.train_on_batch(x, y, sample_weight=np.eye(8)[0])
    assert not np.array_equal(model.params, before)
