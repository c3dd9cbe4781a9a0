"""Hidden states, gradients by step and attributions against finite differences and against the layers' own outputs."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from fastrnn import EncoderDecoder, RNNClassifier, RNNRegressor, Sequential, StandardScaler3D, layers
from fastrnn.datasets import load_sms_spam
from fastrnn.exceptions import NotBuiltError
from fastrnn.inspection import attributions, deletion_curve, gradient_norms, hidden_states
from fastrnn.sequences import Ragged
from fastrnn.text import Tokenizer

CELLS = {"simple_rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}


def ragged(rng, n=5, features=2):
    return [rng.normal(size=(length, features)) for length in rng.integers(3, 8, size=n)]


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_norms_match_finite_differences(cell, rng):
    """The loss as a function of the states after step t, by running the rest of the sequence from them."""
    layer = CELLS[cell](3, dtype="float64", bias_initializer="random_normal")
    model = Sequential([layers.Input((None, 2)), layer, layers.Dense(1, dtype="float64")], seed=0)
    model.compile("sgd", "mse")
    x, y = rng.normal(size=(2, 5, 2)), rng.normal(size=(2, 1))
    probe = CELLS[cell](3, dtype="float64", return_state=True)
    probe.build((None, None, 2))
    probe.set_weights(layer.get_weights())
    kernel, bias = model.layers[1].get_weights()
    found = gradient_norms(model, x, y)
    assert list(found) == [layer.name]
    for i in range(2):
        one, target = x[i : i + 1], y[i, 0]
        for t in range(4):
            _, *states = probe(one[:, : t + 1])

            def loss(states, t=t, one=one, target=target):
                h = probe(one[:, t + 1 :], initial_state=states)[1]
                return float(((h @ kernel + bias)[0, 0] - target) ** 2)

            squares = 0.0
            for k, state in enumerate(states):
                for u in range(3):
                    ends = []
                    for step in (1e-5, -1e-5):
                        moved = [s.copy() for s in states]
                        moved[k][0, u] = state[0, u] + step
                        ends.append(loss(moved))
                    squares += ((ends[0] - ends[1]) / 2e-5) ** 2
            assert found[layer.name][i][t] == pytest.approx(np.sqrt(squares), rel=1e-6)


def test_gradient_norms_of_a_stack_with_targets_for_each_step_match_finite_differences(rng):
    first, second = (layers.GRU(3, return_sequences=True, dtype="float64") for _ in range(2))
    model = Sequential([layers.Input((None, 2)), first, second, layers.Dense(1, dtype="float64")], seed=0)
    model.compile("sgd", "mse")
    x, y = rng.normal(size=(1, 4, 2)), rng.normal(size=(1, 4, 1))
    probe = layers.GRU(3, return_sequences=True, return_state=True, dtype="float64")
    probe.build((None, None, 2))
    probe.set_weights(first.get_weights())
    norms = gradient_norms(model, x, y)[first.name][0]
    before = first(x)
    for t in range(3):

        def loss(state, t=t):
            # The state is what the second layer reads at step t, and what the first goes on from.
            after = probe(x[:, t + 1 :], initial_state=[state])[0]
            h = np.concatenate([before[:, :t], state[:, None], after], axis=1)
            return float(np.mean((model.layers[2](second(h)) - y) ** 2))

        state = before[:, t].copy()
        gradient = []
        for u in range(3):
            step = np.zeros_like(state)
            step[0, u] = 1e-5
            gradient.append((loss(state + step) - loss(state - step)) / 2e-5)
        assert norms[t] == pytest.approx(np.linalg.norm(gradient), rel=1e-6)


def test_gradient_norms_do_not_depend_on_the_batch_or_on_padding(rng):
    X = ragged(rng)
    y = rng.normal(size=len(X))
    model = RNNRegressor(cell="lstm", units=4, max_iter=2, tol=None, random_state=0, dtype="float64").fit(
        X, y
    )
    together = gradient_norms(model, X, y)["lstm"]
    assert [len(n) for n in together] == [len(x) for x in X]
    for i, norm in enumerate(together):
        np.testing.assert_allclose(
            norm, gradient_norms(model, X[i : i + 1], y[i : i + 1])["lstm"][0], rtol=1e-10
        )


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_hidden_states_are_the_outputs_of_all_steps(cell, go_backwards, rng):
    layer = CELLS[cell](4, go_backwards=go_backwards)
    model = Sequential([layers.Input((None, 2)), layer, layers.Dropout(0.5), layers.Dense(1)], seed=0)
    x = rng.normal(size=(3, 6, 2)).astype(np.float32)
    whole = CELLS[cell](4, go_backwards=go_backwards, return_sequences=True)
    whole.build((None, None, 2))
    whole.set_weights(layer.get_weights())
    wanted = whole(x)[:, ::-1] if go_backwards else whole(x)
    np.testing.assert_allclose(np.stack(hidden_states(model, x)), wanted, atol=1e-6)


def test_hidden_states_of_both_directions_and_of_ragged_sequences(rng):
    X = ragged(rng)
    model = RNNClassifier(cell="gru", units=(3, 4), bidirectional=True, dropout=0.3, max_iter=2, tol=None)
    model.set_params(random_state=0, batch_size=2).fit(X, [0, 1, 0, 1, 1])
    forward = hidden_states(model, X, layer=-2)
    assert [h.shape for h in forward] == [(len(x), 4) for x in X]
    named = hidden_states(model, X, layer="forward_gru")
    np.testing.assert_array_equal(named[0], hidden_states(model, X, layer=0)[0])
    assert list(gradient_norms(model, X, [0, 1, 0, 1, 1])) == [
        *("forward_gru", "backward_gru", "forward_gru_1", "backward_gru_1")
    ]
    # The state after the first steps does not depend on the later ones; that of the other direction does.
    cut = [x[:2] for x in X]
    np.testing.assert_allclose(hidden_states(model, cut, layer=0)[1], named[1][:2], atol=1e-6)
    assert not np.allclose(hidden_states(model, cut, layer=1)[1], hidden_states(model, X, layer=1)[1][:2])


@pytest.mark.parametrize("classes", [2, 3])
def test_attributions_are_the_change_of_the_answer_when_a_step_is_scaled(classes, rng):
    X = [x[:, :] for x in ragged(rng, 6)]
    y = np.arange(6) % classes
    model = RNNClassifier(
        cell="lstm", units=4, max_iter=5, tol=None, random_state=0, dtype="float64", dropout=0.4
    )
    model.fit(X, y)

    def answer(X, target):
        p = model.predict_proba(X)[:, list(model.classes_).index(target)]
        rest = model.predict_proba(X)
        # Log-odds for two classes; for more, a logit up to what is common to all, which the mean takes away.
        return np.log(p / (1 - p)) if classes == 2 else np.log(p) - np.log(rest).mean(axis=1)

    def change(i, t, target):
        ends = []
        for step in (1e-5, -1e-5):
            moved = [x.copy() for x in X]
            moved[i][t] *= 1 + step
            ends.append(answer(moved, target)[i])
        return (ends[0] - ends[1]) / 2e-5

    found = {target: attributions(model, X, target=target) for target in range(classes)}
    mean = [np.mean([found[c][i] for c in found], axis=0) for i in range(6)]
    for i, t in ((0, 0), (0, 2), (3, 1), (5, len(X[5]) - 1)):
        wanted = found[1][i][t] - (0 if classes == 2 else mean[i][t])
        assert change(i, t, 1) == pytest.approx(wanted, rel=1e-4, abs=1e-9)
    predicted = model.predict(X)
    for i, values in enumerate(attributions(model, X)):
        np.testing.assert_array_equal(values, found[predicted[i]][i])


def test_attributions_of_tokens_find_the_word_that_decides_and_deletion_confirms_it(rng):
    X = rng.integers(2, 20, size=(300, 8))
    y = rng.integers(0, 2, size=300)
    at = rng.integers(0, 8, size=300)
    X[np.arange(300), at] = y  # token 0 or 1, which stands nowhere else
    model = RNNClassifier(cell="gru", units=8, vocabulary_size=20, embedding_dim=4, learning_rate_init=0.02)
    model.set_params(max_iter=30, tol=None, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.98
    values = np.stack(attributions(model, X))
    assert (np.abs(values).argmax(axis=1) == at).mean() > 0.4  # one in eight by chance
    curve = deletion_curve(model, X, fractions=[0, 0.125, 0.5], random_state=0)
    assert curve.most[0] == curve.random[0] == curve.least[0]
    assert curve.most[1] < 0.7 * curve.most[0]  # one word of eight
    assert curve.most[1] < curve.random[1] < curve.least[1]


def test_inspection_takes_pipelines_and_searches_and_changes_nothing(rng):
    X, y = rng.normal(3, 2, size=(20, 5, 2)), rng.normal(size=20)
    pipe = make_pipeline(
        StandardScaler3D(), RNNRegressor(units=3, dropout=0.5, max_iter=2, tol=None, random_state=0)
    )
    search = GridSearchCV(pipe, {"rnnregressor__units": [3]}, cv=2).fit(X, y)
    best = search.best_estimator_
    before, answers = pickle.dumps(best[-1].model_.get_weights()), search.predict(X)
    scaled = best[0].transform(X)
    for found in (search, best):
        np.testing.assert_array_equal(attributions(found, X), attributions(best[-1], scaled))
        np.testing.assert_array_equal(hidden_states(found, X), hidden_states(best[-1], scaled))
        gradient_norms(found, X, y)
    assert pickle.dumps(best[-1].model_.get_weights()) == before
    np.testing.assert_array_equal(search.predict(X), answers)
    assert best[-1].model_.layers[0].return_state is False


def test_inspection_leaves_the_states_of_stateful_models(rng):
    model = Sequential([layers.Input((None, 2)), layers.GRU(3, stateful=True), layers.Dense(1)], seed=0)
    x = rng.normal(size=(4, 5, 2))
    model.predict(x, batch_size=4)
    states = model.layers[0].states[0].copy()
    np.testing.assert_array_equal(hidden_states(model, x), hidden_states(model.copy(), x))
    np.testing.assert_array_equal(model.layers[0].states[0], states)


def test_inspection_reads_ragged_in_a_sequential(rng):
    X = ragged(rng)
    model = Sequential(
        [layers.Input((None, 2)), layers.Bidirectional(layers.LSTM(3)), layers.Dense(2)], seed=0
    )
    found = attributions(model, Ragged.from_list(X), target=1)
    assert [len(a) for a in found] == [len(x) for x in X]
    alone = attributions(model, X[2][None], target=1)[0]
    np.testing.assert_allclose(found[2], alone, rtol=1e-4, atol=1e-6)


def test_inspection_says_what_is_missing(rng):
    X = rng.normal(size=(4, 5, 2))
    with pytest.raises(NotFittedError, match="not fitted yet"):
        hidden_states(RNNClassifier(), X)
    with pytest.raises(NotFittedError):
        attributions(make_pipeline(StandardScaler3D(), RNNClassifier()), X)
    with pytest.raises(NotFittedError):
        attributions(GridSearchCV(RNNClassifier(), {}), X)
    with pytest.raises(NotBuiltError, match="call fit"):
        attributions(Sequential([layers.GRU(2)]), X)
    with pytest.raises(TypeError, match="is a EncoderDecoder: give a fitted"):
        attributions(EncoderDecoder([layers.GRU(2, return_state=True)], [layers.GRU(2)]), X)
    model = Sequential(
        [layers.Input((None, 2)), layers.GRU(3, return_sequences=True), layers.Dense(1)], seed=0
    )
    with pytest.raises(ValueError, match="one answer for each time step"):
        attributions(model, X)
    with pytest.raises(ValueError, match="layer='lstm' is none of the recurrent layers"):
        hidden_states(model, X, layer="lstm")
    with pytest.raises(ValueError, match="layer=1: there are 1 recurrent layers"):
        hidden_states(model, X, layer=1)
    with pytest.raises(RuntimeError, match="compile"):
        gradient_norms(model, X, X[..., :1])
    with pytest.raises(ValueError, match="no recurrent layer"):
        hidden_states(Sequential([layers.Input((None, 2)), layers.Dense(1)]), X)
    classifier = RNNClassifier(units=2, max_iter=1, tol=None).fit(X, [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"target=7 is none of the classes \[0, 1\]"):
        attributions(classifier, X, target=7)
    with pytest.raises(ValueError, match="fractions"):
        deletion_curve(classifier, X, fractions=[0, 1.0])
    stack = Sequential([layers.Input((None, 2)), layers.RNN([layers.GRUCell(2), layers.GRUCell(2)])])
    with pytest.raises(ValueError, match="one RNN layer for each cell"):
        hidden_states(stack, X)


@pytest.mark.needs_data
def test_deletion_confirms_attributions_on_real_messages(data_dir):
    texts, y = load_sms_spam(data_dir)
    tokenizer = Tokenizer(num_words=1000)
    tokenizer.fit_on_texts(texts)
    X = [np.array(tokens[:40] or [1]) for tokens in tokenizer.texts_to_sequences(texts)]
    model = RNNClassifier(
        cell="lstm", units=16, vocabulary_size=1000, embedding_dim=8, learning_rate_init=0.005
    )
    model.set_params(max_iter=2, tol=None, random_state=0).fit(X[:2000], y[:2000])
    curve = deletion_curve(model, X[2000:2300], random_state=0)
    assert (curve.most[1:] < curve.random[1:]).all()
    assert (curve.most[1:] < curve.least[1:]).all()
    # Half of the fall is theirs at least.
    assert curve.most[0] - curve.most[-1] > 2 * (curve.random[0] - curve.random[-1])
