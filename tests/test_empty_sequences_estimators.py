"""Empty sequences in the estimators: the initial state is the answer, training leaves them out, `score` counts them."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.forecasting import RNNForecaster
from fastrnn.preprocessing import StandardScaler3D
from fastrnn.sequences import Ragged, as_object_array, as_step_values, read_sequences
from fastrnn.text import Tokenizer, pad_sequences

LENGTHS = (0, 3, 2, 0, 4, 1, 0, 5, 2, 3)
FILLED = [i for i, n in enumerate(LENGTHS) if n]
FORMS = {
    "list": list,
    "list-of-lists": lambda X: [x.tolist() for x in X],
    "objects": as_object_array,
    "ragged": Ragged.from_list,
    "padded": lambda X: np.stack([np.pad(x, ((0, 5 - len(x)), (0, 0)), constant_values=np.nan) for x in X]),
}


@pytest.fixture
def X(rng):
    return [rng.normal(size=(n, 2)) for n in LENGTHS]


@pytest.fixture
def y():
    return np.array([0, 1, 0, 1, 1, 0, 1, 1, 0, 1])


def estimator(kind, **options):
    return kind(
        **{"cell": "gru", "units": 3, "max_iter": 3, "tol": None, "batch_size": 4, "random_state": 0}
        | options
    )


def picked(values, rows):
    return [values[i] for i in rows]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"cell": "lstm", "units": (3, 2)}], ids=str)
def test_prediction_of_an_empty_sequence_is_that_of_a_masked_row(X, y, form, options):
    made = estimator(RNNClassifier, **options).fit(picked(X, FILLED), y[FILLED])
    found = made.predict_proba(FORMS[form](X))
    padded, mask = np.zeros((10, 5, 2)), np.zeros((10, 5), bool)
    for row, series in enumerate(X):
        padded[row, : len(series)], mask[row, : len(series)] = series, True
    np.testing.assert_allclose(found[:, 1:], made.model_.predict(padded, mask=mask), rtol=1e-5)
    np.testing.assert_array_equal(found[FILLED], made.predict_proba(picked(X, FILLED)))
    assert len(np.unique(found[np.array(LENGTHS) == 0], axis=0)) == 1
    np.testing.assert_array_equal(made.predict(FORMS[form](X)), (found[:, 1] > 0.5).astype(int))
    assert np.isfinite(made.predict_log_proba(FORMS[form](X))).all()


def test_prediction_from_the_initial_state_is_the_output_of_zeros(X):
    """By hand: the state of a GRU is zero, so the dense layer's bias is the answer."""
    made = estimator(RNNRegressor).fit(X, np.arange(10.0))
    bias = made.model_.layers[-1].get_weights()[1]
    np.testing.assert_array_equal(made.predict(X)[[0, 3, 6]], np.repeat(bias, 3).astype(float))
    np.testing.assert_array_equal(made.predict([np.zeros((0, 2))]), bias.astype(float))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_training_leaves_empty_sequences_out(X, y, form, weighted, kind):
    weight = np.linspace(1, 3, 10) if weighted else None
    options = {"class_weight": "balanced"} if weighted and kind is RNNClassifier else {}
    made = estimator(kind, **options).fit(FORMS[form](X), y, weight)
    kept = None if weight is None else weight[FILLED]
    other = estimator(kind, **options).fit(picked(X, FILLED), y[FILLED], kept)
    np.testing.assert_array_equal(made.model_.params, other.model_.params)
    assert made.loss_curve_ == other.loss_curve_
    if weighted:
        return
    arguments = {"classes": [0, 1]} if kind is RNNClassifier else {}
    a = estimator(kind).partial_fit(FORMS[form](X), y, **arguments)
    b = estimator(kind).partial_fit(picked(X, FILLED), y[FILLED], **arguments)
    np.testing.assert_array_equal(a.model_.params, b.model_.params)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_targets_of_steps_are_none_for_an_empty_sequence(X, form, kind):
    y = [np.arange(n) % 2 for n in LENGTHS]
    weight = [np.arange(1.0, n + 1) for n in LENGTHS]
    given = FORMS[form](X)
    if form == "padded":
        laid_out = [np.stack([np.pad(np.float64(v), (0, 5 - len(v))) for v in part]) for part in (y, weight)]
    elif form == "list-of-lists":
        laid_out = [[v.tolist() for v in part] for part in (y, weight)]
    else:
        laid_out = [y, weight]
    made = estimator(kind, return_sequences=True).fit(given, *laid_out)
    other = estimator(kind, return_sequences=True).fit(
        picked(X, FILLED), picked(y, FILLED), picked(weight, FILLED)
    )
    np.testing.assert_array_equal(made.model_.params, other.model_.params)
    assert made.score(given, *laid_out) == other.score(
        picked(X, FILLED), picked(y, FILLED), picked(weight, FILLED)
    )
    found = made.predict(given)
    if form == "padded":
        assert np.isnan(found[0]).all()
    else:
        assert [len(steps) for steps in found] == list(LENGTHS)
    expected = other.predict(picked(X, FILLED))
    for i, steps in zip(FILLED, expected, strict=True):
        np.testing.assert_array_equal(found[i][: len(steps)], steps)


def test_labels_of_steps_keep_their_dtype():
    X = Ragged(np.zeros((3, 1)), [0, 0, 2, 3])
    for y in ([[], ["a", "b"], ["a"]], [[], [0, 1], [1]], [np.zeros(0), np.array([0, 1]), np.array([1])]):
        flat = as_step_values(y, X)
        assert flat.dtype.kind == np.asarray(y[1]).dtype.kind
        assert flat.tolist() == [*y[1], *y[2]]


def test_score_counts_empty_sequences_as_metrics_of_predictions_do(X, y):
    made = estimator(RNNClassifier).fit(X, y)
    assert made.score(X, y) == accuracy_score(y, made.predict(X))
    made = estimator(RNNRegressor).fit(X, y)
    assert made.score(X, y) == r2_score(y, made.predict(X))


def test_search_and_cross_validation_take_empty_sequences(X, y):
    pipeline = make_pipeline(StandardScaler3D(), estimator(RNNClassifier))
    X = as_object_array(X)
    search = GridSearchCV(pipeline, {"rnnclassifier__units": [2, 3]}, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (10,)
    assert cross_val_predict(pipeline, X, y, cv=2, method="predict_proba").shape == (10, 2)


def test_scaler_passes_empty_sequences_on(X):
    scaler = StandardScaler3D().fit(X)
    np.testing.assert_array_equal(scaler.mean_, StandardScaler3D().fit(picked(X, FILLED)).mean_)
    assert [len(x) for x in scaler.transform(X)] == list(LENGTHS)
    assert scaler.transform([np.zeros((0, 2))])[0].shape == (0, 2)
    with pytest.raises(ValueError, match="all its sequences are empty"):
        StandardScaler3D().fit([np.zeros((0, 2))])


def test_early_stopping_takes_empty_sequences(X, y):
    options = {"early_stopping": True, "validation_fraction": 0.3, "shuffle": False}
    made = estimator(RNNClassifier, **options).fit(X, y)
    other = estimator(RNNClassifier, **options).fit(picked(X, FILLED), y[FILLED])
    assert made.validation_scores_ == other.validation_scores_
    made.fit(X, y, validation_data=(X, y))
    best = made.best_validation_score_
    assert best == made.score(X, y)  # the best weights are kept
    steps = estimator(RNNClassifier, **options, return_sequences=True)
    with pytest.raises(ValueError, match="validation_data: all sequences are empty"):
        steps.fit(X, [np.arange(n) % 2 for n in LENGTHS], validation_data=([np.zeros((0, 2))], [[]]))


@pytest.mark.parametrize("per_step", [False, True], ids=["sequence", "steps"])
def test_stateful_rows_without_steps_keep_their_state(X, per_step):
    """What a row has seen in all calls is what counts, not in which calls."""

    def targets(lengths):
        return [np.ones(n) for n in lengths] if per_step else np.ones(len(lengths))

    made = estimator(RNNRegressor, stateful=True, return_sequences=per_step, solver="sgd")
    made.set_params(learning_rate_init=1e-30)  # the weights stay as they are
    first, second = picked(X, [7, 1, 4]), [np.zeros((0, 2)), X[2], X[5]]
    made.partial_fit(first, targets([len(x) for x in first]))
    before = [s.copy() for s in made.states_[0]]
    made.partial_fit(second, targets([0, 2, 1]))
    np.testing.assert_array_equal(made.states_[0][0][0], before[0][0])
    joined = [np.concatenate(pair) for pair in zip(first, second, strict=True)]
    other = estimator(RNNRegressor, stateful=True, return_sequences=per_step, solver="sgd")
    other.set_params(learning_rate_init=1e-30)
    other.partial_fit(joined, targets([len(x) for x in joined]))
    np.testing.assert_allclose(made.states_[0][0], other.states_[0][0], rtol=1e-5)


@pytest.mark.parametrize("per_step", [False, True], ids=["sequence", "steps"])
@pytest.mark.parametrize("stateful", [False, True], ids=["stateless", "stateful"])
def test_training_on_empty_sequences_alone_changes_nothing(X, y, stateful, per_step):
    empty = [np.zeros((0, 2))] * 2
    targets = [[], []] if per_step else [0.0, 1.0]
    made = estimator(RNNRegressor, stateful=stateful, return_sequences=per_step)
    full = [np.ones(n) for n in LENGTHS] if per_step else y
    if not stateful:
        made.fit(X, full)
    before = dict(vars(made))
    for fit in (made.fit, made.partial_fit):
        with pytest.raises(ValueError, match="X holds no time step: all its sequences are empty"):
            fit(empty, targets)
        with pytest.raises(ValueError, match="X holds no time step: all its sequences are empty"):
            fit(np.full((2, 4, 2), np.nan), [[], []] if per_step else [0.0, 1.0])
        assert vars(made) == before


def test_documents_without_known_words():
    texts = ["good film", "bad film", "", "unknown", "good good", "bad"] * 4
    tokenizer = Tokenizer(num_words=4)
    tokenizer.fit_on_texts(texts)
    tokens = tokenizer.texts_to_sequences(texts)
    assert tokens[2] == []
    y = np.array(["pos", "neg", "neg", "neg", "pos", "neg"] * 4)
    made = estimator(RNNClassifier, vocabulary_size=4, embedding_dim=3).fit(tokens, y)
    assert set(made.predict(tokens)) <= {"pos", "neg"}
    assert read_sequences(tokens, vocabulary_size=4).data.values.dtype.kind == "i"
    padded = pad_sequences(tokens, padding="post", dtype="float32", value=np.nan)
    np.testing.assert_array_equal(made.predict_proba(padded), made.predict_proba(tokens))
    assert Ragged.from_list(tokens).dtype.kind == "i"


@pytest.mark.parametrize(
    ("items", "shape"),
    [
        ([[], np.ones((2, 3), np.float32)], (2, 3)),
        ([np.zeros((0, 3)), np.ones((2, 3), np.float32)], (2, 3)),
        ([np.ones(2, np.float32), []], (2,)),
        ([np.zeros((0, 3), np.float32), []], (0, 3)),
    ],
)
def test_joined_sequences_have_shape_and_dtype_of_those_with_steps(items, shape):
    joined = Ragged.from_list(items)
    assert joined.values.shape == shape
    assert joined.dtype == np.float32


def test_empty_sequences_with_other_features_are_refused(X, y):
    with pytest.raises(ValueError, match=r"X\[3\] has shape \(0, 5\), but X\[1\] has shape \(3, 2\)"):
        read_sequences([[], X[1], X[2], np.zeros((0, 5))])


def test_an_empty_series_has_no_forecast():
    made = RNNForecaster(horizon=2, units=2, max_iter=1)
    for fit in (made.fit, made.update):
        with pytest.raises(
            ValueError, match="series 1 is empty: there is nothing to forecast from, leave it out"
        ):
            fit([np.arange(30.0), np.zeros(0)])
        made.fit([np.arange(30.0), np.arange(20.0)])
