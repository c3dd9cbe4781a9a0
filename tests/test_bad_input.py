"""Bad input is refused before any work, with a message that names argument, value and remedy."""

import copy

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from fastrnn import Sequential, layers
from fastrnn.estimators import RNNClassifier, RNNRegressor
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.optimizers import SGD
from fastrnn.sequences import as_object_array

NAN = np.nan
QUICK = {"units": 3, "max_iter": 2, "tol": None, "random_state": 0}
X3 = np.random.default_rng(0).normal(size=(8, 4, 2))
Y = np.arange(8) % 2


def classifier(**arguments):
    return RNNClassifier(**{**QUICK, **arguments})


def regressor(**arguments):
    return RNNRegressor(**{**QUICK, **arguments})


def state_of(model):
    """All that a failed call must not change."""
    state = {k: v for k, v in vars(model).items() if k not in ("model_", "_rng")}
    network = getattr(model, "model_", None)
    return copy.deepcopy(state), None if network is None else network.params.copy(), network


def assert_unchanged(model, before):
    state, params, network = before
    now, params_now, network_now = state_of(model)
    assert now.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, StandardScaler):
            np.testing.assert_equal(vars(now[name]), vars(value))
        else:
            np.testing.assert_equal(now[name], value)
    assert network_now is network
    if params is not None:
        np.testing.assert_array_equal(params_now, params)


def refuses(model, method, message, *args, error=ValueError, **kwargs):
    before = state_of(model)
    with pytest.raises(error, match=message):
        getattr(model, method)(*args, **kwargs)
    assert_unchanged(model, before)


@pytest.fixture(params=["new", "fitted"])
def model(request):
    """A fitted or an unfitted classifier."""
    made = classifier()
    return made.fit(X3, Y) if request.param == "fitted" else made


BAD_X = {
    "ndim-1": (np.zeros(8), r"1-D array of shape \(8,\).*Reshape your data"),
    "ndim-4": (np.zeros((8, 4, 2, 1)), r"X has 4 dimensions, shape \(8, 4, 2, 1\)"),
    "empty": (np.zeros((0, 4, 2)), r"0 sample\(s\)"),
    "empty-list": ([], r"0 sample\(s\)"),
    "no-steps": (np.zeros((8, 0, 2)), r"0 time step\(s\)"),
    "nan": (
        np.where(np.arange(2) == 1, NAN, X3),
        r"NaN inside a sequence: sample 0, step 0, feature\(s\) \[1\]",
    ),
    "inf": (np.where(X3[2, 1, 1] == X3, np.inf, X3), r"inf \(infinity\) at sample 2, step 1, feature 1"),
    "too-large": (X3 * 1e39, r"too large for dtype float32.*dtype='float64'"),
    "mixed-features": ([np.zeros((4, 2))] * 7 + [np.zeros((4, 3))], r"X\[7\] has shape \(4, 3\)"),
    "text": (np.full((8, 4), "a"), r"X must hold numbers.*vocabulary_size"),
    "none": (None, r"got None for X"),
}


@pytest.mark.parametrize("case", BAD_X)
def test_sequences(model, case):
    X, message = BAD_X[case]
    for method in ("fit", "partial_fit"):
        extra = {"classes": [0, 1]} if method == "partial_fit" else {}
        refuses(model, method, message, X, Y, **extra)
    if hasattr(model, "model_"):
        refuses(model, "predict", message, X)
        refuses(model, "predict_proba", message, X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((8, 4), 5), r"token 5 at sample 0, step 0, outside \[0, 5\).*vocabulary_size"),
        (np.full((8, 4), -1), r"token -1 at sample 0, step 0, outside \[0, 5\)"),
        (np.full((8, 4), 1.5), r"contains 1.5 at sample 0, step 0.*integer token"),
        (np.zeros((8, 4, 2), int), r"X has 3 dimensions.*of tokens, as vocabulary_size is set"),
        ([[1, 2], [7]], r"token 7 at sample 1, step 0"),
    ],
)
def test_tokens(X, message):
    fitted = classifier(vocabulary_size=5).fit(np.zeros((8, 3), int), Y)
    refuses(fitted, "fit", message, X, Y[: len(X)])
    refuses(fitted, "predict", message, X)


def test_other_feature_count_at_predict():
    fitted = classifier().fit(X3, Y)
    for X in (X3[:, :, :1], [np.zeros((3, 1))]):
        refuses(fitted, "predict", r"X has 1 features, but RNNClassifier is expecting 2 features", X)
    refuses(fitted, "partial_fit", r"X has 1 features", X3[:, :, :1], Y)
    refuses(fitted, "predict", r"X has 1 features.*a single sequence .* is X\[None\]", X3[0])
    table = classifier().fit(X3[:, :, 0], Y)
    refuses(table, "predict", r"X has 3 features, but .* expecting 4 .*X\[:, :, None\]", X3[:, :3, 0])
    refuses(table, "predict", r"X has 2 features, but RNNClassifier is expecting 1", X3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:-1], r"inconsistent numbers of samples"),
        (None, r"requires y to be passed, but the target y is None"),
        (np.arange(8) / 3, r"Unknown label type: continuous"),
        (np.where(Y == 1, NAN, Y), r"contains NaN"),
        (np.zeros(8), r"at least 2 classes, got 1 class: 0.0"),
        (np.zeros((8, 2)), r"1d array|one label"),
    ],
)
def test_labels(model, y, message):
    refuses(model, "fit", message, X3, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(7), r"inconsistent numbers of samples"),
        (np.full(8, NAN), r"NaN"),
        (np.full(8, np.inf), r"inf"),
        (np.full(8, 1e39), r"y contains values too large for dtype='float32'; scale it"),
        (np.zeros((8, 4, 1)), r"y has shape \(8, 4, 1\).*return_sequences=True"),
        (np.array(["a"] * 8), r"y holds 'a', a text: RNNRegressor learns numbers"),
    ],
)
def test_numbers(y, message):
    refuses(regressor(), "fit", message, X3, y)
    refuses(regressor().fit(X3, X3[:, 0, 0]), "fit", message, X3, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y, r"with return_sequences=True it holds one value for each step"),
        (np.zeros((8, 3), int), r"y has 3 steps but X has 4|y\[0\] has shape \(3,\) but X\[0\] has 4 steps"),
        ([np.zeros(4)] * 7, r"y holds 7 sequences but X holds 8"),
        ([np.zeros(4)] * 7 + [np.zeros(5)], r"y\[7\] has shape \(5,\) but X\[7\] has 4 steps"),
    ],
)
@pytest.mark.parametrize("make", [classifier, regressor])
def test_targets_of_steps(make, y, message):
    refuses(make(return_sequences=True), "fit", message, X3, y)
    refuses(make(return_sequences=True), "fit", message, as_object_array(X3), y)


def test_regressor_with_another_number_of_outputs():
    fitted = regressor().fit(X3, X3[:, 0])
    refuses(fitted, "partial_fit", r"y has 1 outputs, but the network was made for 2", X3, X3[:, 0, 0])


def test_classes_of_partial_fit():
    refuses(classifier(), "partial_fit", r"classes must be passed on the first call to partial_fit", X3, Y)
    fitted = classifier().partial_fit(X3, Y, classes=[0, 1])
    refuses(fitted, "partial_fit", r"labels that are unknown, \[2\]; known classes are \[0, 1\]", X3, Y + 1)
    refuses(fitted, "partial_fit", r"not the same as on the last call", X3, Y, classes=[0, 1, 2])
    refuses(
        classifier(), "partial_fit", r"unknown, \['b'\]", X3, np.array(["a", "b"] * 4), classes=["a", "c"]
    )


def test_class_weight():
    message = r"class_weight='balanced' is not supported for partial_fit"
    refuses(classifier(class_weight="balanced"), "partial_fit", message, X3, Y, classes=[0, 1])
    refuses(classifier(class_weight={0: 1.0, "x": 2.0}), "fit", r"class", X3, Y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(8), r"weights must contain at least one non-zero"),
        (np.full(8, -1.0), r"Negative values in sample_weight"),
        (np.ones(7), r"sample_weight.shape == \(7,\)"),
        (np.full(8, NAN), r"NaN"),
    ],
)
@pytest.mark.parametrize("make", [classifier, regressor])
def test_sample_weight(make, weight, message):
    refuses(make(), "fit", message, X3, Y, sample_weight=weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "lstmm"}, r"'cell' parameter.*'lstm'.*Got 'lstmm'"),
        ({"activation": "tanhh"}, r"'activation' parameter.*'tanh'.*Got 'tanhh'"),
        ({"recurrent_activation": "x"}, r"'recurrent_activation' parameter"),
        ({"units": -1}, r"'units' parameter.*range \[1, inf\).*Got -1"),
        ({"units": 0}, r"'units' parameter.*Got 0"),
        ({"units": (3, -2)}, r"'units' parameter.*Got \(3, -2\)"),
        ({"units": ()}, r"'units' parameter.*Got \(\)"),
        ({"units": 3.5}, r"'units' parameter.*Got 3.5"),
        ({"merge_mode": "add"}, r"'merge_mode' parameter.*Got 'add'"),
        ({"dropout": 1.0}, r"'dropout' parameter.*Got 1.0"),
        ({"recurrent_dropout": -0.1}, r"'recurrent_dropout' parameter"),
        ({"solver": "lbfgs"}, r"'solver' parameter.*'adam'.*Got 'lbfgs'"),
        ({"alpha": -1}, r"'alpha' parameter"),
        ({"batch_size": 0}, r"'batch_size' parameter.*Got 0"),
        ({"batch_size": "all"}, r"'batch_size' parameter.*'auto'"),
        ({"learning_rate_init": 0}, r"'learning_rate_init' parameter"),
        ({"max_iter": 0}, r"'max_iter' parameter"),
        ({"tol": -1}, r"'tol' parameter"),
        ({"validation_fraction": 1.0}, r"'validation_fraction' parameter"),
        ({"n_iter_no_change": 0}, r"'n_iter_no_change' parameter"),
        ({"clipnorm": 0}, r"'clipnorm' parameter"),
        ({"vocabulary_size": 0}, r"'vocabulary_size' parameter"),
        ({"embedding_dim": -3}, r"'embedding_dim' parameter"),
        ({"dtype": "float16"}, r"'dtype' parameter.*'float32'.*Got 'float16'"),
        ({"n_jobs": 0}, r"'n_jobs' parameter"),
        ({"random_state": "x"}, r"'random_state' parameter"),
        (
            {"go_backwards": True, "return_sequences": True},
            r"go_backwards=True can't be used with return_sequences",
        ),
        ({"stateful": True, "bidirectional": True}, r"stateful=True can't be used with bidirectional=True"),
    ],
    ids=str,
)
def test_parameters(model, arguments, message):
    before = model.get_params()
    model.set_params(**arguments)
    refuses(model, "fit", message, X3, Y)
    model.set_params(**before)


def test_unknown_parameter():
    with pytest.raises(TypeError, match="unit"):
        RNNClassifier(unit=3)
    with pytest.raises(TypeError, match="class_weight"):
        RNNRegressor(class_weight="balanced")
    with pytest.raises(TypeError):
        RNNClassifier("lstm")


def test_changed_network():
    fitted = classifier().fit(X3, Y).set_params(cell="gru")
    refuses(
        fitted, "partial_fit", r"cell='gru', but the network was made with cell='lstm'.*Set cell back", X3, Y
    )


def test_partial_fit_with_early_stopping():
    message = r"partial_fit does not support early_stopping=True"
    refuses(classifier(early_stopping=True), "partial_fit", message, X3, Y, classes=[0, 1])


def test_not_fitted():
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(NotFittedError):
            getattr(classifier(), method)(X3)


def test_other_batch_size_in_stateful_mode():
    fitted = classifier(stateful=True).partial_fit(X3, Y, classes=[0, 1])
    message = r"X holds 5 sequences, but with stateful=True.*had 8.*reset_states\(\)"
    refuses(fitted, "partial_fit", message, X3[:5], Y[:5])
    refuses(fitted, "predict", message, X3[:5])


# ---- a loss that stops being finite

EXPLODING = {
    "cell": "simple_rnn", "activation": "linear", "clipnorm": None, "solver": "sgd", "learning_rate_init": 1e6,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.filterwarnings("ignore:X is far from unit scale")
def test_loss_that_is_never_finite_leaves_the_object_as_it_was():
    wild = regressor(**EXPLODING, max_iter=50)
    X, y = X3 * 1e30, X3[:, 0, 0]
    refuses(wild, "fit", r"in epoch 1.*The estimator is unchanged.*clipnorm", X, y, error=NonFiniteLossError)
    with pytest.raises(NotFittedError):
        wild.predict(X)
    fitted = regressor(**{**EXPLODING, "learning_rate_init": 1e-3}).fit(X3, y)
    refuses(fitted, "fit", r"in epoch 1", X, y, error=NonFiniteLossError)
    refuses(fitted, "partial_fit", r"the loss became|a gradient became", X, y, error=NonFiniteLossError)
    fitted.partial_fit(X3, y)
    assert np.isfinite(fitted.predict(X3)).all()


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_loss_that_stops_being_finite_keeps_the_last_good_weights():
    X, y = X3, X3[:, 0, 0]
    slower = {**EXPLODING, "learning_rate_init": 10.0}
    wild = regressor(**slower, max_iter=50)
    with pytest.raises(
        NonFiniteLossError, match=r"What usually helps: a lower learning_rate_init.*clipnorm"
    ) as e:
        wild.fit(X, y)
    assert f"The weights after epoch {wild.n_iter_} are kept" in str(e.value)
    assert np.isfinite(wild.loss_curve_).all()
    assert np.isfinite(wild.model_.params).all()
    again = regressor(**slower, max_iter=wild.n_iter_).fit(X, y)
    np.testing.assert_array_equal(wild.model_.params, again.model_.params)


def bursting(step):
    """A learning rate that is out of bounds in the last update of the third epoch of two batches."""
    return 1e300 if step == 5 else 1e-3


BURSTING = {"solver": SGD(bursting), "batch_size": 4, "shuffle": False, "cell": "gru"}


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("max_iter", [3, 10])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_weights_that_are_not_finite_are_not_kept_though_the_loss_was(early_stopping, max_iter):
    X, y = np.concatenate([X3] * 2)[:10], np.concatenate([X3[:, 0, 0]] * 2)[:10]
    more = {"early_stopping": early_stopping, "validation_fraction": 0.2}
    if not early_stopping:
        X, y = X[:8], y[:8]
    wild = regressor(**BURSTING, **more, max_iter=max_iter)
    with pytest.raises(
        NonFiniteLossError, match=r"a weight became NaN or infinite in epoch 3\. .* epoch 2 are"
    ):
        wild.fit(X, y)
    assert wild.n_iter_ == 2
    again = regressor(**BURSTING, **more, max_iter=2).fit(X, y)
    np.testing.assert_array_equal(wild.model_.params, again.model_.params)
    assert wild.loss_curve_ == again.loss_curve_
    assert wild.model_.optimizer.iterations == 4


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_weights_that_are_not_finite_are_not_kept_by_partial_fit():
    y = X3[:, 0, 0]
    model = regressor(**BURSTING).partial_fit(X3, y).partial_fit(X3, y)
    before = model.model_.params.copy()
    with pytest.raises(NonFiniteLossError, match="a weight became NaN or infinite"):
        model.partial_fit(X3, y)
    np.testing.assert_array_equal(model.model_.params, before)
    assert model.n_iter_ == 2
    assert np.isfinite(model.predict(X3)).all()


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_weights_that_fail_at_the_first_batch_are_not_kept():
    """The step is large, yet the weights stay finite; the loss does not."""
    solver = SGD(lambda step: 1e25 if step == 5 else 1e-3)
    options = {**BURSTING, "solver": solver, "cell": "simple_rnn", "activation": "linear", "clipnorm": None}
    y = X3[:, 0, 0]
    wild = regressor(**options, max_iter=10)
    with pytest.raises(NonFiniteLossError, match=r"in epoch 4\. The weights after epoch 2 are kept"):
        wild.fit(X3, y)
    assert wild.n_iter_ == 2
    np.testing.assert_array_equal(
        wild.model_.params, regressor(**options, max_iter=2).fit(X3, y).model_.params
    )


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_model_does_not_keep_weights_that_are_not_finite():
    model = Sequential([layers.GRU(4), layers.Dense(1)], seed=0)
    model.compile(SGD(bursting), "mse")
    model.build(X3.shape)
    y = X3[:, 0, 0]
    model.fit(X3, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    before = model.params.copy()
    with pytest.raises(
        NonFiniteLossError, match=r"in epoch 3: a weight became NaN or infinite; the last good weights"
    ):
        model.fit(X3, y, batch_size=4, initial_epoch=2, epochs=3, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.params, before)
    assert model.optimizer.iterations == 4
