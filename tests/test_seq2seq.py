"""EncoderDecoder: teacher forcing, free running, gradients through the encoder's states, and all that models do."""

import pickle

import numpy as np
import pytest

import fastrnn
from fastrnn import EncoderDecoder, callbacks, layers, losses, metrics, regularizers
from fastrnn.model import load_model
from fastrnn.sequences import Ragged
from tests import keras_oracle, naive
from tests.layer_cases import CELLS, LAYER_NAMES
from tests.seq2seq_cases import F64, N_BATCH, N_IN, N_OUT, N_READ, N_WRITE, START, data, make


def randomize(model, x, rng, scale=0.6):
    model._ensure_ready((None, *np.shape(x)[1:]))
    model.params = rng.normal(size=model.params.size) * scale


# -- gradients


def assert_gradient(model, x, y, rng, n=80, **more):
    value = model.compute_gradients(x, y, **more)
    grads = model.grads.copy()
    frozen = np.ones(grads.size, bool)
    for start, stop in model.plan.variables:
        frozen[start:stop] = False
    for table in model.plan.tables:
        frozen[table.start : table.stop] = False
    chosen = rng.choice(np.flatnonzero(~frozen), min(n, (~frozen).sum()), replace=False)
    for i in chosen:
        start, sides = model.params.copy(), []
        for step in (1e-6, -1e-6):
            model.params = start + step * (np.arange(start.size) == i)
            sides.append(model.compute_gradients(x, y, **more))
        model.params = start
        assert grads[i] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=2e-8, rel=1e-6)
    return value, grads


@pytest.mark.parametrize("kind", ["tokens", "one-hot", "numbers"])
@pytest.mark.parametrize("units", [(4,), (4, 3)], ids=["one", "two"])
@pytest.mark.parametrize("cell", CELLS)
def test_encoder_decoder_gradient_matches_finite_difference(cell, units, kind, rng):
    model = make(cell, units, kind)
    x, y = data(kind, rng)
    randomize(model, x, rng)
    _, grads = assert_gradient(model, x, y, rng)
    # The encoder gets gradients only through its states.
    size = sum(w.size for layer in model.encoder for w in layer.get_weights())
    assert np.abs(grads[:size]).max() > 1e-4


def variant(name):
    """Models of other layers than one cell's, with what else their loss depends on."""
    more, kind, given = {}, "numbers", {"start": None, "seed": 3}
    if name == "bidirectional":
        encoder = [layers.Bidirectional(layers.LSTM(2, **F64), **F64)]
        decoder = [layers.LSTM(4, **F64), layers.Dense(N_OUT, **F64)]
    elif name == "bidirectional stack":
        encoder = [
            layers.Bidirectional(layers.GRU(2, **F64), merge_mode="sum", **F64),
            layers.Bidirectional(layers.GRU(3, **F64), merge_mode="mul", **F64),
        ]
        decoder = [layers.GRU(4, **F64), layers.GRU(6, **F64), layers.Dense(N_OUT, **F64)]
    elif name == "stacked cells":
        cells = [[layers.LSTMCell(4, **F64), layers.GRUCell(3, **F64)] for _ in range(2)]
        encoder = [layers.RNN(cells[0], **F64)]
        decoder = [layers.RNN(cells[1], **F64), layers.Dense(N_OUT, **F64)]
    elif name == "penalties":
        some = {"activity_regularizer": regularizers.L2(0.1), "kernel_regularizer": "l2", **F64}
        encoder = [layers.LSTM(4, **some)]
        decoder = [layers.LSTM(4, **some), layers.Dense(N_OUT, **some)]
    elif name == "backwards, no dense":
        encoder = [layers.SimpleRNN(N_OUT, go_backwards=True, **F64)]
        decoder = [layers.SimpleRNN(N_OUT, **F64)]
        given["start"] = [0.1, 0.2, 0.3, 0.4, 0.5]
    elif name == "masks and weights":
        encoder = [layers.Masking(**F64), layers.LSTM(4, **F64), layers.LSTM(4, **F64)]
        decoder = [layers.LSTM(4, **F64), layers.LSTM(4, **F64), layers.Dense(N_OUT, **F64)]
        given["start"] = "last"
        more["sample_weight"] = np.array([[1, 2, 0], [0.5, 1, 1], [1, 1, 1], [3, 0, 0]])
    else:
        kind, given = "tokens", {"start": START, "end": 1, "seed": 3}
        encoder = [layers.Embedding(N_IN, 3, mask_zero=True, **F64), layers.GRU(4, **F64)]
        decoder = [
            layers.Embedding(N_OUT + 1, 3, **F64),
            layers.GRU(4, **F64),
            layers.TimeDistributed(layers.Dense(N_OUT, activation="softmax", **F64)),
        ]
    model = EncoderDecoder(encoder, decoder, **given)
    model.compile("sgd", "mse" if kind == "numbers" else "sparse_categorical_crossentropy")
    return model, kind, more


VARIANTS = [
    "bidirectional",
    "bidirectional stack",
    "stacked cells",
    "penalties",
    "backwards, no dense",
    "masks and weights",
    "masked tokens, end",
]


def variant_data(name, kind, rng):
    x, y = data(kind, rng)
    if name == "masks and weights":
        x[0, 3:] = x[2, :2] = 0
    if name == "masked tokens, end":
        x[1, 4:] = x[3, 1:] = 0
        y[:, 1] = [1, 2, 1, 0]
    return x, y


@pytest.mark.parametrize("name", VARIANTS)
def test_encoder_decoder_variant_gradient_matches_finite_difference(name, rng):
    model, kind, more = variant(name)
    x, y = variant_data(name, kind, rng)
    randomize(model, x, rng)
    assert_gradient(model, x, y, rng, **more)


@pytest.mark.parametrize("part", ["encoder", "decoder", "first of the decoder"])
def test_frozen_part_stays_and_leaves_other_gradients_alone(part, rng):
    x, y = data("tokens", rng)
    model = make("gru", (4, 3))
    randomize(model, x, rng)
    model.compute_gradients(x, y)
    whole = model.grads.copy()
    frozen = {"encoder": model.encoder, "decoder": model.decoder, "first of the decoder": model.decoder[:2]}[
        part
    ]
    for layer in frozen:
        layer.trainable = False
    model.plan_updates()
    model.grads[...] = 0
    model.compute_gradients(x, y)
    at = 0
    for layer in model.layers:
        size = layer.count_params()
        if layer.trainable:
            np.testing.assert_allclose(model.grads[at : at + size], whole[at : at + size], rtol=1e-12)
        at += size
    before = [layer.get_weights() for layer in frozen]
    model.train_on_batch(x, y)
    for layer, weights in zip(frozen, before, strict=True):
        for a, b in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)


# -- what is computed


def naive_pass(model, cell, x, kind, inputs=None, n_steps=None, mask=None):
    """Outputs by the equations, one step at a time: shown `inputs`, or, without them, running freely."""
    weights = [layer.get_weights() for layer in model.encoder]
    h = weights.pop(0)[0][x] if kind == "tokens" else x
    states = []
    for w in weights:
        h, s = naive.recurrent(cell, h, w, mask=mask, return_sequences=True)
        states.append(s)
    *middle, dense = [layer.get_weights() for layer in model.decoder]
    table = middle.pop(0)[0] if kind == "tokens" else np.eye(N_OUT)
    read = {"tokens": lambda t: table[t], "one-hot": lambda t: table[t], "numbers": lambda t: t}[kind]
    first = read(np.full(len(x), START)) if kind == "tokens" else np.zeros((len(x), N_OUT))
    outputs = []
    for t in range(n_steps or inputs.shape[1]):
        if t == 0:
            h = first
        elif inputs is not None:
            h = read(inputs[:, t - 1])
        else:
            h = read(outputs[-1] if kind == "numbers" else outputs[-1].argmax(-1))
        for k, w in enumerate(middle):
            h, states[k] = naive.STEPS[cell](h, states[k], w)
        outputs.append(naive.dense(h, dense, "linear" if kind == "numbers" else "softmax"))
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("kind", ["tokens", "one-hot", "numbers"])
@pytest.mark.parametrize("cell", CELLS)
def test_teacher_forcing_matches_naive(cell, kind, rng):
    model = make(cell, (4, 3), kind)
    x, y = data(kind, rng)
    randomize(model, x, rng)
    expected = naive_pass(model, cell, x, kind, y)
    np.testing.assert_allclose(model(x, y), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(model(x, y, training=True), expected, rtol=1e-11, atol=1e-12)
    if kind == "numbers":
        loss = np.mean((expected - y) ** 2)
    else:
        loss = -np.log(np.take_along_axis(expected, y[..., None], -1)).mean()
        one_hot = np.eye(N_OUT)[y]
        np.testing.assert_array_equal(model(x, one_hot), model(x, y))
        np.testing.assert_array_equal(model(x, y[..., None].astype(float)), model(x, y))
    assert model.compute_gradients(x, y) == pytest.approx(loss, rel=1e-10)


@pytest.mark.parametrize("kind", ["tokens", "one-hot", "numbers"])
@pytest.mark.parametrize("cell", CELLS)
def test_free_running_matches_naive_and_steps_by_hand(cell, kind, rng):
    model = make(cell, (14, 12), kind)
    x, _ = data(kind, rng, 10)
    randomize(model, x, rng, scale=1.0)
    # Without a bias, as one token could win at every step.
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([2 * kernel, 0 * bias])
    expected = naive_pass(model, cell, x, kind, n_steps=6)
    np.testing.assert_allclose(model.predict(x, n_steps=6), expected, rtol=1e-10, atol=1e-11)
    inputs, states = model.encode(x)
    for t in range(6):
        outputs, states = model.step(inputs, states)
        np.testing.assert_allclose(outputs, expected[:, t], rtol=1e-10, atol=1e-11)
        inputs = outputs if kind == "numbers" else outputs.argmax(axis=-1)
    # Shown what it wrote itself, it writes the same.
    written = expected if kind == "numbers" else expected.argmax(axis=-1)
    np.testing.assert_allclose(model(x, written), expected, rtol=1e-10, atol=1e-11)
    if kind != "numbers":
        tokens = model.predict(x, n_steps=6, tokens=True)
        assert tokens.dtype == np.int64
        np.testing.assert_array_equal(tokens, written)
        assert len(np.unique(tokens)) > 2


def test_mask_of_the_input_matches_naive_and_leaves_padding_out(rng):
    model = make("lstm", (4, 3), mask_zero=True)
    x, y = rng.integers(1, N_IN, (N_BATCH, N_READ)), data("tokens", rng)[1]
    randomize(model, x, rng)
    x[0, 4:] = x[1, 1:] = 0
    np.testing.assert_allclose(
        model(x, y), naive_pass(model, "lstm", x, "tokens", y, mask=x != 0), rtol=1e-11, atol=1e-12
    )
    short = model.predict(x[:1, :4], n_steps=5)
    np.testing.assert_allclose(model.predict(x, n_steps=5)[:1], short, rtol=1e-11)
    assert np.abs(model.predict(x, n_steps=5)[0] - make("lstm", (4, 3))(x, n_steps=5)[0]).max() > 1e-3


@pytest.mark.parametrize("kind", ["one-hot", "numbers"])
def test_ragged_input_is_each_sequence_alone(kind, rng):
    model = make("gru", kind=kind)
    sequences = [rng.normal(size=(n, 6)) for n in (3, 7, 1, 5, 4)]
    model.build((None, None, 6))
    alone = np.concatenate([model.predict(s[None], n_steps=9) for s in sequences])
    together = model.predict(Ragged.from_list(sequences), n_steps=9, batch_size=2)
    np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-12)
    y = data(kind, rng, 5)[1]
    loss = model.fit(Ragged.from_list(sequences), y, batch_size=5, verbose=0).history["loss"]
    assert np.isfinite(loss).all()


def test_bidirectional_encoder_joins_both_directions(rng):
    model, kind, _ = variant("bidirectional")
    x, y = data(kind, rng)
    randomize(model, x, rng)
    bi, lstm, dense = (layer.get_weights() for layer in model.layers)
    _, states = naive.bidirectional("lstm", x, bi[:3], bi[3:])
    states = [np.concatenate([states[0], states[2]], 1), np.concatenate([states[1], states[3]], 1)]
    shown = np.concatenate([np.zeros((N_BATCH, 1, N_OUT)), y[:, :-1]], axis=1)
    h, _ = naive.recurrent("lstm", shown, lstm, initial_state=states, return_sequences=True)
    np.testing.assert_allclose(model(x, y), naive.dense(h, dense), rtol=1e-11, atol=1e-12)


def test_stacked_cells_match_stacked_layers(rng):
    model, _, _ = variant("stacked cells")
    plain = EncoderDecoder(
        [layers.LSTM(4, **F64), layers.GRU(3, **F64)],
        [layers.LSTM(4, **F64), layers.GRU(3, **F64), layers.Dense(N_OUT, **F64)],
    )
    x, y = data("numbers", rng)
    for each in (model, plain):
        each.compile("sgd", "mse")
        each.build((None, None, 6))
    randomize(model, x, rng)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(model(x, y), plain(x, y), rtol=1e-12)
    np.testing.assert_allclose(model(x, n_steps=8), plain(x, n_steps=8), rtol=1e-11)
    for each in (model, plain):
        each.compute_gradients(x, y)
    np.testing.assert_allclose(model.grads, plain.grads, rtol=1e-10, atol=1e-13)


def test_start_is_the_last_valid_step(rng):
    model = EncoderDecoder(
        [layers.Masking(**F64), layers.GRU(3, **F64)],
        [layers.GRU(3, **F64), layers.Dense(2, **F64)],
        start="last",
    )
    x = rng.normal(size=(4, 5, 4))
    x[1, 3:] = x[2, :4] = x[3] = 0
    first, _ = model.encode(x)
    np.testing.assert_array_equal(first, [x[0, 4, :2], x[1, 2, :2], x[2, 4, :2], [0, 0]])
    first, _ = model.encode(x, mask=np.array([[1, 1, 0, 0, 0]] * 4, bool))
    np.testing.assert_array_equal(first[0], x[0, 1, :2])


# -- the end token


def test_steps_behind_the_end_do_not_count(rng):
    end = 2
    model = make("gru", end=end)
    x, _ = data("tokens", rng)
    y = np.array([[1, end, 0, 0], [end, end, end, end], [0, 1, 3, 4], [4, 3, 1, end]])
    counts = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], bool)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    randomize(model, x, rng)
    p = naive_pass(model, "gru", x, "tokens", y)
    expected = -np.log(np.take_along_axis(p, y[..., None], -1))[..., 0][counts].mean()
    loss, accuracy = model.train_on_batch(x, y)
    assert loss == pytest.approx(expected, rel=1e-10)
    assert accuracy == pytest.approx((p.argmax(-1) == y)[counts].mean())
    other = y.copy()
    other[~counts] = 3
    model.compute_gradients(x, y)
    grads = model.grads.copy()
    model.compute_gradients(x, other)
    # The padding of later steps has no effect on steps that count.
    np.testing.assert_allclose(model.grads, grads, rtol=1e-12, atol=1e-15)


def test_tokens_end_with_the_end(rng):
    free, ended = (make("simple_rnn", (24,), end=end) for end in (None, 2))
    x = rng.integers(0, N_IN, (50, N_READ))
    randomize(free, x, rng)  # wide enough to wander from token to token
    ended.set_weights(free.get_weights())
    tokens, cut = (model.predict(x, n_steps=12, tokens=True) for model in (free, ended))
    assert len(np.unique(tokens)) == N_OUT
    behind = np.cumsum(tokens == 2, axis=1) > 0
    assert 0 < behind.mean() < 1
    np.testing.assert_array_equal(cut, np.where(behind, 2, tokens))
    np.testing.assert_array_equal(cut, ended.predict(x, n_steps=12, tokens=True, batch_size=7))
    np.testing.assert_array_equal(ended.predict(x, n_steps=12), free.predict(x, n_steps=12))


# -- evaluation


@pytest.mark.parametrize("kind", ["tokens", "numbers"])
def test_evaluate_measures_what_predict_gives(kind, rng):
    x, y = data(kind, rng, 10)
    model = make("lstm", kind=kind)
    randomize(model, x, rng)
    y_pred = model.predict(x, n_steps=N_WRITE)
    loss = losses.get(model.loss)
    assert model.evaluate(x, y, batch_size=4) == pytest.approx(loss(y, y_pred))
    forced = make("lstm", kind=kind, teacher_forcing="always")
    forced.set_weights(model.get_weights()) if forced.built else randomize(forced, x, rng)
    forced.set_weights(model.get_weights())
    assert forced.evaluate(x, y) == pytest.approx(forced.compute_gradients(x, y))
    assert forced.evaluate(x, y) != pytest.approx(loss(y, y_pred))


def test_validation_runs_freely(rng):
    x, y = data("tokens", rng, 20)

    def exact(y_true, y_pred):
        return (y_true == y_pred.argmax(axis=-1)).all(axis=-1)

    model = make("lstm")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy", exact])
    history = model.fit(x, y, epochs=2, validation_split=0.25, verbose=0).history
    assert list(history) == [
        f"{part}{name}" for part in ("", "val_") for name in ("loss", "accuracy", "exact")
    ]
    tokens = model.predict(x[15:], tokens=True)
    assert history["val_accuracy"][-1] == pytest.approx((tokens == y[15:]).mean())
    assert history["val_exact"][-1] == pytest.approx((tokens == y[15:]).all(axis=1).mean())


def test_penalty_in_evaluation_is_that_of_all_steps(rng):
    model, kind, _ = variant("penalties")
    x, y = data(kind, rng)
    randomize(model, x, rng)
    y_pred = model(x, n_steps=N_WRITE)
    # Shown what it wrote itself, it computes the same, so that its penalties are the same.
    penalty = model.compute_gradients(x, y_pred) - np.mean((model(x, y_pred) - y_pred) ** 2)
    assert model.evaluate(x, y) == pytest.approx(np.mean((y_pred - y) ** 2) + penalty)


# -- learning


def test_reversal_is_learned(rng):
    x = rng.integers(0, 8, (2000, 4))
    model = EncoderDecoder(
        [layers.Embedding(8, 16), layers.GRU(48)],
        [layers.Embedding(9, 16), layers.GRU(48), layers.Dense(8, activation="softmax")],
        start=8,
        seed=0,
    )
    model.compile(fastrnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:1800], x[:1800, ::-1], epochs=12, verbose=0)
    tokens = model.predict(x[1800:], tokens=True)
    assert (tokens == x[1800:, ::-1]).all(axis=1).mean() > 0.95
    # In the other order, it would be right by chance alone.
    assert (tokens == x[1800:]).all(axis=1).mean() < 0.1


def test_forecast_beats_the_last_value(rng):
    phase = rng.uniform(0, 2 * np.pi, (200, 1))
    series = np.sin(0.4 * np.arange(30) + phase)[..., None]
    x, y = series[:, :20], series[:, 20:]
    model = EncoderDecoder([layers.GRU(16)], [layers.GRU(16), layers.Dense(1)], start="last", seed=0)
    model.compile(fastrnn.optimizers.Adam(0.01), "mse")
    model.fit(x[:150], y[:150], epochs=40, verbose=0)
    error = model.evaluate(x[150:], y[150:])
    assert error < 0.05 * np.mean((x[150:, -1:] - y[150:]) ** 2)
    # It was trained on 10 steps and goes on beyond them.
    assert model.predict(x[150:], n_steps=15).shape == (50, 15, 1)


# -- as other models


def test_fit_repeats_with_the_seed_and_updates_with_any_optimizer(rng):
    x, y = data("tokens", rng, 24)
    for optimizer in ("sgd", "rmsprop", "adam", "adagrad"):
        runs = []
        for _ in range(2):
            model = make("gru", seed=7)
            model.compile(optimizer, "crossentropy")
            runs.append(model.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"])
        assert runs[0] == runs[1]
        assert runs[0][1] < runs[0][0]


def test_callbacks_and_files(rng, tmp_path):
    x, y = data("tokens", rng, 24)
    model = make("lstm")
    stop = callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    keep = callbacks.ModelCheckpoint(tmp_path / "{epoch}.fastrnn")
    history = model.fit(x, y, epochs=5, validation_data=(x, y), callbacks=[stop, keep], verbose=0)
    assert len(history.epoch) == 2
    expected = model.predict(x)
    np.testing.assert_array_equal(load_model(tmp_path / "2.fastrnn").predict(x), expected)
    model.save_weights(tmp_path / "w.fastrnn")
    again = make("lstm", seed=9)
    again.load_weights(tmp_path / "w.fastrnn")
    np.testing.assert_array_equal(again.predict(x, n_steps=N_WRITE), expected)


@pytest.mark.parametrize("name", [*VARIANTS, "tokens", "one-hot"])
def test_pickle_config_and_copy(name, rng):
    if name in VARIANTS:
        model, kind, _ = variant(name)
    else:
        model, kind = make("lstm", (4, 3), name), name
    model.compile("adam", model.loss)
    x, y = variant_data(name, kind, rng)
    model.train_on_batch(x, y)
    again = type(model).from_config(pickle.loads(pickle.dumps(model.get_config())))
    assert again.get_config() == model.get_config()
    again._ensure_ready((None, *x.shape[1:]))
    again.set_weights(model.get_weights())
    copies = [pickle.loads(pickle.dumps(model)), model.copy()]
    for other in (again, *copies):
        np.testing.assert_array_equal(other.predict(x, n_steps=4), model.predict(x, n_steps=4))
    model.train_on_batch(x, y)
    for other in copies:
        other.train_on_batch(x, y)
        np.testing.assert_allclose(other.params, model.params, rtol=1e-12)


def test_summary_shows_both_parts():
    model = make("lstm", (4, 3))
    printed = []
    model.summary(print_fn=printed.append)
    for layer in model.layers:
        assert f"{layer.name} ({type(layer).__name__})" in printed[0]
    assert [layer.name for layer in model.encoder] == ["encoder_embedding", "encoder_lstm", "encoder_lstm_1"]
    assert [layer.name for layer in model.decoder][-1] == "decoder_dense"
    assert f"Total params: {model.count_params():,}" in printed[0]
    assert model.params.size == model.count_params()
    assert model.encoder + model.decoder == model.layers


def test_weights_exist_with_input_and_wait_for_data_without(rng):
    def parts(*first):
        return [*first, layers.GRU(3)], [layers.GRU(3), layers.Dense(2)]

    stated = EncoderDecoder(*parts(layers.Input((None, 4))))
    assert stated.built
    assert EncoderDecoder(*parts()).built is False
    waiting = EncoderDecoder(*parts())
    assert waiting(rng.normal(size=(2, 5, 4)), n_steps=3).shape == (2, 3, 2)
    assert waiting.count_params() == stated.count_params()
    assert EncoderDecoder.from_config(stated.get_config()).built
    with pytest.raises(ValueError, match=r"inputs of shape \(None, None, 4\), got \(None, 5, 3\)"):
        stated.predict(np.zeros((2, 5, 3)), n_steps=2)


def test_iterable_of_batches(rng):
    x, y = data("numbers", rng, 20)
    a, b = make("gru", kind="numbers"), make("gru", kind="numbers")
    loss = a.fit(x, y, batch_size=10, shuffle=False, epochs=2, verbose=0).history["loss"]
    parts = [(x[:10], y[:10]), (x[10:], y[10:])]
    assert b.fit(parts, epochs=2, verbose=0).history["loss"] == loss
    np.testing.assert_array_equal(b.predict([(x[:10],), (x[10:],)]), a.predict(x, batch_size=10))


def test_metric_objects_and_class_weights(rng):
    x, y = data("tokens", rng, 8)
    model = make("gru")
    model.compile(
        "sgd",
        "sparse_categorical_crossentropy",
        metrics=[metrics.SparseCategoricalAccuracy()],
        weighted_metrics=["accuracy"],
    )
    history = model.fit(x, y, class_weight={0: 3.0}, verbose=0).history
    assert list(history) == ["loss", "sparse_categorical_accuracy", "accuracy"]
    assert fastrnn.seq2seq.EncoderDecoder is EncoderDecoder


# -- Keras


def keras_twin(keras, cell, masked):
    """Keras's functional model of `make(cell, (4, 3), mask_zero=masked)`, shown targets; and its layers in our order."""
    make_layer = getattr(keras.layers, LAYER_NAMES[cell])
    reads, shown = (keras.Input((None,), dtype="int32") for _ in range(2))
    made = [keras.layers.Embedding(N_IN, 3, mask_zero=masked, **F64)]
    h, states = made[0](reads), []
    for units in (4, 3):
        made.append(make_layer(units, return_sequences=True, return_state=True, **F64))
        h, *state = made[-1](h)
        states.append(state)
    made.append(keras.layers.Embedding(N_OUT + 1, 3, **F64))
    h = made[-1](shown)
    for units, state in zip((4, 3), states, strict=True):
        made.append(make_layer(units, return_sequences=True, **F64))
        h = made[-1](h, initial_state=state)
    made.append(keras.layers.Dense(N_OUT, activation="softmax", **F64))
    return keras.Model([reads, shown], made[-1](h)), made


@pytest.mark.peers
@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("cell", CELLS)
def test_teacher_forcing_and_training_match_keras(cell, masked, rng):
    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))
    model = make(cell, (4, 3), mask_zero=masked)
    x, y = data("tokens", rng)
    if masked:
        x = np.maximum(x, 1)
        x[0, 4:] = x[1, 2:] = 0
    randomize(model, x, rng)
    twin, made = keras_twin(keras, cell, masked)
    weights = iter(model.get_weights())
    for layer in made:
        layer.set_weights([next(weights) for _ in layer.weights])
    shown = np.concatenate([np.full((N_BATCH, 1), START), y[:, :-1]], axis=1)
    np.testing.assert_allclose(
        model(x, y), keras_oracle.to_numpy(twin([x, shown], training=False)), rtol=1e-9, atol=1e-10
    )
    model.compile(fastrnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    # From logits, as Keras on TensorFlow does where a softmax stands before it.
    made[-1].activation = keras.activations.linear
    twin.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=keras_oracle.backend() != "jax",
    )
    for _ in range(4):
        ours, theirs = model.train_on_batch(x, y), twin.train_on_batch([x, shown], y)
        assert ours == pytest.approx(float(np.ravel(theirs)[0]), rel=1e-6)
    after = [w for layer in made for w in layer.get_weights()]
    for mine, his in zip(model.get_weights(), after, strict=True):
        np.testing.assert_allclose(mine, his, rtol=1e-6, atol=1e-8)
