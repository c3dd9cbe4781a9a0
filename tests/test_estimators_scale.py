"""Targets and inputs of any scale: what is standardised inside, and what is warned of."""

import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastrnn
from fastrnn import Ragged, RNNClassifier, RNNRegressor
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.losses import Huber, Loss
from fastrnn.preprocessing import StandardScaler3D
from fastrnn.sequences import as_object_array
from fastrnn.text import Tokenizer

GOLDEN = Path(__file__).parent / "golden" / "regressor_v1.fastrnn"
QUICK = {"cell": "gru", "units": 6, "tol": None, "random_state": 0}
SCALES = {
    "raw": lambda v: v,
    "times 1e4": lambda v: v * 1e4,
    "plus 1e5": lambda v: v + 1e5,
    "times 1e-3": lambda v: v * 1e-3,
}


# ---- the table of ten data sets


def _sine():
    wave = np.sin(np.arange(200) / 5)
    return np.lib.stride_tricks.sliding_window_view(wave[:-1], 12)[:, :, None], wave[12:]


def _adding(rng):
    X = np.stack([rng.uniform(-1, 1, size=(150, 3)), np.zeros((150, 3))], axis=2)
    marks = np.argsort(rng.uniform(size=(150, 3)), axis=1)[:, :2]
    np.put_along_axis(X[..., 1], marks, 1.0, axis=1)
    return X, (X[..., 0] * X[..., 1]).sum(1)


def _walk(rng):
    X = rng.normal(size=(150, 10, 1))
    return X, X.cumsum(axis=1)[..., 0]


def _ragged(rng):
    X = as_object_array([rng.normal(size=(n, 2)) for n in rng.integers(2, 9, 150)])
    return X, np.array([x[:, 0].mean() - x[-1, 1] for x in X])


def _two_outputs(rng):
    X = rng.normal(size=(150, 6, 2))
    return X, np.c_[X[:, -1, 0], 500 * X[:, -1, 1] + 20 * X[:, -2, 0]]


def _parity(rng):
    X = rng.choice([-1.0, 1.0], size=(150, 4, 1))
    return X, np.where(X[:, -2:].prod(axis=1)[:, 0] > 0, "even", "odd")


def _bundled(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    keep = np.random.default_rng(0).permutation(len(X))[:150]
    return X[keep][:, None, :], y[keep]


TABLE = {
    "sine": lambda rng: _sine(),
    "adding": _adding,
    "walk per step": _walk,
    "ragged": _ragged,
    "two outputs": _two_outputs,
    "diabetes": lambda rng: _bundled("diabetes"),
    "parity": _parity,
    "iris": lambda rng: _bundled("iris"),
    "wine": lambda rng: _bundled("wine"),
    "breast cancer": lambda rng: _bundled("breast_cancer"),
}


def _changed(X, function):
    if X.dtype == object:
        return as_object_array([function(x) for x in X])
    return function(X)


def _score(X, y, per_step=False):
    kind = RNNRegressor if np.asarray(y).dtype.kind == "f" else RNNClassifier
    model = kind(**QUICK, max_iter=60, learning_rate_init=0.02, return_sequences=per_step, n_jobs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    return model, model.score(X, y), [str(w.message) for w in caught]


@pytest.mark.parametrize("name", TABLE)
def test_any_scale_of_the_data_scores_as_the_standardised_one_or_is_warned_of(name, rng):
    X, y = TABLE[name](rng)
    standard, per_step = StandardScaler3D().fit_transform(X), "per step" in name
    regression = np.asarray(y).dtype.kind == "f"
    t = y
    if regression:
        t = (y - y.mean(axis=None if per_step else 0)) / y.std(axis=None if per_step else 0)
    _, reference, told = _score(standard, t, per_step)
    assert not told
    for change in SCALES.values():
        _, score, told = _score(_changed(X, change), y, per_step)
        assert score == pytest.approx(reference, abs=0.02) or "StandardScaler3D" in told[0]
        if regression:
            _, score, told = _score(standard, change(y), per_step)
            assert score == pytest.approx(reference, abs=0.02)
            assert not told


# ---- targets


@pytest.fixture
def data(rng):
    X = rng.normal(size=(120, 6, 2))
    return X, X[:, -1, 0] + 0.5 * X[:, -2, 1]


def test_normalized_targets_equal_a_transformed_target_regressor(data):
    X, y = data
    y = 3000 + 250 * y
    inside = RNNRegressor(**QUICK, max_iter=5, dtype="float64").fit(X, y)
    outside = TransformedTargetRegressor(
        RNNRegressor(**QUICK, max_iter=5, dtype="float64", normalize_y=False), transformer=StandardScaler()
    ).fit(X, y)
    np.testing.assert_allclose(inside.predict(X), outside.predict(X), rtol=1e-10)
    np.testing.assert_allclose(inside.loss_curve_, np.array(outside.regressor_.loss_curve_) * y.var())


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_losses_are_in_the_units_of_y(loss, data):
    X, y = data
    y = 1e4 * y - 500
    still = RNNRegressor(**QUICK, max_iter=1, loss=loss, learning_rate_init=1e-12).fit(X, y)
    error = {"mse": mean_squared_error, "mae": mean_absolute_error}[loss](y, still.predict(X))
    assert still.loss_ == pytest.approx(error, rel=1e-5)


def test_weighted_mean_and_spread_are_those_of_repeated_samples(data):
    X, y = data
    weight = np.arange(len(y)) % 3
    weighted = RNNRegressor(**QUICK, max_iter=1).fit(X, y, weight)
    repeated = RNNRegressor(**QUICK, max_iter=1).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    for name in ("mean_", "scale_"):
        np.testing.assert_allclose(
            getattr(weighted.y_scaler_, name), getattr(repeated.y_scaler_, name), rtol=1e-6
        )


def test_outputs_of_unequal_scale_are_learnt_alike(data):
    X, y = data
    both = np.c_[1e4 * y, 1e-3 * X[:, -1, 1] + 7]
    model = RNNRegressor(**QUICK, max_iter=40, learning_rate_init=0.02).fit(X, both)
    assert r2_score(both, model.predict(X), multioutput="raw_values").min() > 0.95


class MeanSquare(Loss):
    """The squared error, as a user would write it."""

    def values(self, y_true, y_pred):
        return ((y_pred - y_true) ** 2).mean(axis=-1)

    def gradient(self, y_true, y_pred):
        return 2 * (y_pred - y_true) / y_pred.shape[-1]


def test_a_loss_of_the_users_own_is_in_the_units_of_y(data):
    X, y = data
    y = 100 * y + 5
    own = RNNRegressor(**QUICK, max_iter=4, loss=MeanSquare(), dtype="float64").fit(X, y)
    usual = RNNRegressor(**QUICK, max_iter=4, dtype="float64").fit(X, y)
    np.testing.assert_allclose(own.predict(X), usual.predict(X), rtol=1e-8)
    np.testing.assert_allclose(own.loss_curve_, usual.loss_curve_, rtol=1e-8)


def test_delta_of_a_huber_loss_is_in_the_units_of_y(data):
    """Far above the spread it is the squared error, far below the absolute error, in the units of y alone."""
    X, y = data
    y, options = 1000 * y, {**QUICK, "max_iter": 4, "dtype": "float64"}
    wide = RNNRegressor(**options, loss=Huber(1e5)).fit(X, y)
    np.testing.assert_allclose(wide.predict(X), RNNRegressor(**options).fit(X, y).predict(X), rtol=1e-8)
    narrow = RNNRegressor(**options, loss=Huber(1e-3)).fit(X, y)
    assert narrow.loss_ == pytest.approx(1e-3 * mean_absolute_error(y, narrow.predict(X)), rel=0.2)


def test_the_network_itself_is_in_the_units_of_y(data):
    X, y = data
    model = RNNRegressor(**QUICK, max_iter=3).fit(X, 1000 * y + 1e4)
    np.testing.assert_allclose(model.model_.predict(X, verbose=0)[:, 0], model.predict(X), rtol=1e-6)
    stream = model.model_.stream()
    for t in range(X.shape[1]):
        last = stream.step(X[:1, t])
    assert last[0, 0] == pytest.approx(model.predict(X[:1])[0], rel=1e-6)
    assert model.model_.evaluate(X, 1000 * y + 1e4, verbose=0) == pytest.approx(
        mean_squared_error(1000 * y + 1e4, model.predict(X)), rel=1e-4
    )


def test_partial_fit_follows_mean_and_spread(data):
    X, y = data
    y = 5000 + 300 * y
    model = RNNRegressor(**QUICK, learning_rate_init=0.02)
    for _ in range(30):
        for k in range(0, 120, 30):
            model.partial_fit(X[k : k + 30], y[k : k + 30])
    assert model.y_scaler_.mean_[0] == pytest.approx(y.mean())
    assert model.y_scaler_.scale_[0] == pytest.approx(y.std())
    assert model.score(X, y) > 0.95


@pytest.mark.parametrize("scale", [1e4, 1, 1e-3])
def test_partial_fit_of_single_samples_learns_at_any_scale(scale, data):
    X, y = data
    model = RNNRegressor(**QUICK, learning_rate_init=0.02)
    for _ in range(6):
        for k in range(120):
            model.partial_fit(X[k : k + 1], scale * (y[k : k + 1] + 3))
    assert model.score(X, scale * (y + 3)) > 0.85


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_and_spread_of_partial_fit_are_those_of_the_scaler_of_scikit_learn(weighted, data):
    X, y = data
    both = np.c_[1e3 * y + 5, np.full(len(y), 7.0)]
    weight = np.arange(len(y)) % 4 if weighted else None
    model, scaler = RNNRegressor(**QUICK), StandardScaler()
    for k in range(0, 120, 8):
        part = slice(k, k + 8)
        model.partial_fit(X[part], both[part], None if weight is None else weight[part])
        scaler.partial_fit(both[part], sample_weight=None if weight is None else weight[part])
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        np.testing.assert_allclose(getattr(model.y_scaler_, name), getattr(scaler, name), rtol=1e-6)


def test_a_change_of_the_spread_keeps_the_predictions(data):
    X, y = data
    options = {**QUICK, "dtype": "float64", "learning_rate_init": 1e-300}
    model = RNNRegressor(**options).partial_fit(X, y)
    before = model.predict(X)
    model.partial_fit(X, 1000 * y + 50)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-9)
    model.set_params(warm_start=True, max_iter=1).fit(X, y - 7)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-9)
    model.set_params(normalize_y=False).partial_fit(X, y)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-9)
    assert model.y_scaler_ is None


def test_failed_partial_fit_leaves_network_and_scaler(data):
    X, y = data
    model = RNNRegressor(**QUICK, batch_size=40).partial_fit(X, y)
    before, scaler = model.predict(X), vars(model.y_scaler_).copy()
    bad = X.copy()
    bad[-1] = 1e38
    model.set_params(learning_rate_init=1e30, clipnorm=None)
    with pytest.raises(NonFiniteLossError):
        model.partial_fit(bad, 1e6 * y)
    np.testing.assert_array_equal(model.predict(X), before)
    np.testing.assert_equal(vars(model.y_scaler_), scaler)


def test_early_stopping_takes_the_scale_from_the_samples_that_are_trained_on(data):
    X, y = data
    y = y.copy()
    y[-12:] += 1000
    model = RNNRegressor(**QUICK, early_stopping=True, shuffle=False, max_iter=2).fit(X, y)
    assert model.y_scaler_.mean_[0] == pytest.approx(y[:-12].mean())
    model = RNNRegressor(**QUICK, early_stopping=True, max_iter=3)
    model.fit(X[9:-12], y[9:-12], validation_data=(X[:9], y[:9]))
    assert model.y_scaler_.mean_[0] == pytest.approx(y[9:-12].mean())
    assert model.best_validation_score_ == pytest.approx(model.score(X[:9], y[:9]), abs=1e-5)


@pytest.mark.parametrize("form", ["dense", "ragged"])
def test_targets_of_steps_in_any_scale(form, rng):
    lengths = [8] * 60 if form == "dense" else rng.integers(2, 9, 60)
    X = [rng.normal(size=(n, 1)) for n in lengths]
    y = [1e5 + 40 * x.cumsum() for x in X]
    if form == "dense":
        X, y = np.array(X), np.array(y)
    model = RNNRegressor(**QUICK, return_sequences=True, max_iter=60, learning_rate_init=0.02).fit(X, y)
    assert model.score(X, y) > 0.95
    # Padding has no part in mean and spread.
    assert model.y_scaler_.mean_[0] == pytest.approx(np.concatenate(list(y)).mean())


def test_survives_pickling_and_files(data, tmp_path):
    X, y = data
    model = RNNRegressor(**QUICK, max_iter=3).fit(X, 100 * y)
    model.save(tmp_path / "model")
    for other in (pickle.loads(pickle.dumps(model)), fastrnn.load(tmp_path / "model")):
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        other.partial_fit(X[:60], 100 * y[:60])
        again = pickle.loads(pickle.dumps(model)).partial_fit(X[:60], 100 * y[:60])
        np.testing.assert_array_equal(other.predict(X), again.predict(X))
        np.testing.assert_equal(vars(other.y_scaler_), vars(again.y_scaler_))


def test_file_of_a_version_without_normalized_targets_goes_on():
    model = fastrnn.load(GOLDEN)
    X = np.round(np.random.default_rng(0).normal(size=(12, 4, 2)), 3)
    before = [-0.17208436, 0.5279004, -0.08574348]
    np.testing.assert_allclose(model.predict(X[:3]), before, rtol=1e-5)
    model.set_params(learning_rate_init=1e-30).partial_fit(X, 100 * X[:, -1, 0])
    np.testing.assert_allclose(model.predict(X[:3]), before, rtol=1e-4)


def test_targets_without_spread(data):
    X, _ = data
    model = RNNRegressor(**QUICK, max_iter=3).fit(X, np.full(120, 1e4))
    np.testing.assert_allclose(model.predict(X), 1e4, rtol=1e-3)


def test_targets_that_the_dtype_can_not_tell_apart_are_warned_of(data):
    X, y = data
    with pytest.warns(UserWarning, match=r"y varies by .* around .*Subtract a constant.*dtype='float64'"):
        RNNRegressor(**QUICK, max_iter=1).fit(X, 1e-3 * y + 1e5)
    RNNRegressor(**QUICK, max_iter=1, dtype="float64").fit(X, 1e-3 * y + 1e5)


# ---- tol


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("options", [{}, {"normalize_y": False, "loss": "mae"}], ids=["default", "as it is"])
def test_tol_is_relative_to_the_size_of_the_loss(scale, options, data):
    X, y = data
    if options:  # what training itself does with such numbers is no matter here: nothing moves
        options = {**options, "learning_rate_init": 1e-12}
    made = {
        **QUICK,
        "tol": 1e-2,
        "max_iter": 300,
        "n_iter_no_change": 3,
        "learning_rate_init": 0.02,
        **options,
    }
    n_iter = [RNNRegressor(**made).fit(X, y * s).n_iter_ for s in (1.0, scale)]
    assert n_iter[0] == n_iter[1] < 300


# ---- inputs


@pytest.mark.parametrize(
    ("channel", "change"),
    [(0, lambda v: v * 1e4), (1, lambda v: v + 1e5), (1, lambda v: v * 1e-3), (0, lambda v: 1 + v * 1e-4)],
)
def test_inputs_far_from_unit_scale_are_warned_of_once_with_the_worst_channel(channel, change, data):
    X, y = data
    X[..., channel] = change(X[..., channel])
    for given in (X, list(X)):
        with pytest.warns(UserWarning, match=rf"channel {channel}.*StandardScaler3D") as told:
            RNNRegressor(**QUICK, max_iter=2).fit(given, y)
        assert len(told) == 1
        assert told[0].filename == __file__
    model = RNNRegressor(**QUICK)
    with pytest.warns(UserWarning, match="far from unit scale"):
        model.partial_fit(X, y)
    model.partial_fit(X, y)


def test_channels_are_named_as_the_columns_of_a_data_frame(data):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    X, y = data
    frame = pd.DataFrame({"low": X[:, -1, 0], "high": X[:, -1, 1]}) * 1e4
    with pytest.warns(UserWarning, match="its values"):
        RNNClassifier(**QUICK, max_iter=1).fit(frame, y > 0)


@pytest.mark.parametrize(
    "channel",
    [np.zeros((120, 6)), np.ones((120, 6)), np.eye(120, 6), np.linspace(0, 5, 720).reshape(120, 6)],
    ids=["zeros", "ones", "rare", "to 5"],
)
def test_ordinary_channels_are_not_warned_of(channel, data):
    X, y = data
    X[..., 1] = channel
    RNNRegressor(**QUICK, max_iter=1).fit(X, y)


def test_padding_and_tokens_have_no_scale(data):
    X, y = data
    X[:, 4:] = np.nan
    RNNRegressor(**QUICK, max_iter=1).fit(X, y)
    tokens = np.arange(720).reshape(120, 6)
    RNNRegressor(**QUICK, max_iter=1, vocabulary_size=720).fit(tokens, y)


def test_convergence_is_warned_of_with_the_default_tol(data):
    X, y = data
    with pytest.warns(ConvergenceWarning):
        model = RNNRegressor(cell="gru", units=6, max_iter=2, random_state=0).fit(X, y)
    assert math.isfinite(model.loss_)


def test_tokens_without_a_vocabulary_are_warned_of(rng):
    tokens = [rng.integers(1, 5, n) for n in rng.integers(2, 6, 30)]
    y = np.arange(30) % 2
    for given in (tokens, as_object_array(tokens), Ragged.from_list(tokens)):
        with pytest.warns(
            UserWarning, match="If they are tokens, set vocabulary_size; if not, pass floats"
        ) as told:
            RNNClassifier(**QUICK, max_iter=1).fit(given, y)
        assert len(told) == 1
        assert told[0].filename == __file__
    RNNClassifier(**QUICK, max_iter=1, vocabulary_size=5).fit(tokens, y)
    RNNClassifier(**QUICK, max_iter=1).fit([part.astype(float) for part in tokens], y)
    with pytest.warns(
        UserWarning, match=r"far from unit scale: whole numbers from \d+ to \d+.*set vocabulary_size"
    ):
        RNNClassifier(**QUICK, max_iter=1).fit(rng.integers(0, 900, (30, 6)), y)


def test_tokenizer_before_an_estimator_without_a_vocabulary_is_warned_of():
    pipeline = make_pipeline(Tokenizer(), RNNClassifier(**QUICK, max_iter=1))
    with pytest.warns(UserWarning, match="set vocabulary_size"):
        pipeline.fit(["good film", "bad film"] * 4, ["p", "n"] * 4)
