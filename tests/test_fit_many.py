"""`fit_many`: each model is that of a single fit; what happens if one fails or Ctrl-C comes."""

import itertools
import pickle
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import sklearn
from joblib import parallel_config
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from fastrnn import NonFiniteLossError, RNNClassifier, RNNRegressor, fit_many
from fastrnn.engine.runtime.jit import PLAIN
from fastrnn.optimizers import Adam
from fastrnn.preprocessing import StandardScaler3D
from fastrnn.training import prepared
from fastrnn.training.prepared_epoch import PreparedEpochs
from tests.limits import HANG_SECONDS, eventually


def regressor(**options):
    return RNNRegressor(**{"units": 4, "max_iter": 3, "tol": None, "random_state": 0} | options)


def classifier(**options):
    return RNNClassifier(**{"units": 4, "max_iter": 3, "tol": None, "random_state": 0} | options)


def dense(rng, n=5, size=36):
    sets = rng.normal(size=(n, size, 6, 2))
    return [(x, x[:, -1, 0] - x[:, 0, 1]) for x in sets]


def labelled(data):
    return [(x, np.where(y > 0, "up", "down")) for x, y in data]


def ragged(rng, n=5):
    data = []
    for _ in range(n):
        x = [rng.normal(size=(length, 2)) for length in rng.integers(1, 9, 30)]
        data.append((x, np.array([s[-1, 0] for s in x])))
    return data


def assert_same(many, single):
    """The same but for rounding, which three epochs enlarge a little."""
    assert repr(many).partition("(")[2] == repr(single).partition("(")[2]  # the parameters
    np.testing.assert_allclose(many.model_.params, single.model_.params, rtol=1e-4, atol=3e-6)
    np.testing.assert_allclose(many.loss_curve_, single.loss_curve_, rtol=1e-5)
    assert (many.best_loss_ is None) == (single.best_loss_ is None)
    assert many.n_iter_ == single.n_iter_
    if single.validation_scores_ is not None:
        np.testing.assert_allclose(many.validation_scores_, single.validation_scores_, rtol=1e-4, atol=1e-5)


CASES = {
    "regressor": (regressor, dense, {}),
    "classifier": (classifier, lambda rng: labelled(dense(rng)), {}),
    "three-classes": (
        classifier,
        lambda rng: [(x, np.digitize(y, [-1, 1])) for x, y in dense(rng)],
        {"units": (4, 3), "cell": "lstm"},
    ),
    "ragged": (regressor, ragged, {}),
    "ragged-classifier": (classifier, lambda rng: labelled(ragged(rng)), {}),
    "two-outputs": (
        regressor,
        lambda rng: [(x, np.stack([y, y**2], 1)) for x, y in dense(rng)],
        {"cell": "simple_rnn"},
    ),
    "unclipped-backwards": (regressor, dense, {"clipnorm": None, "go_backwards": True, "units": 7}),
    "float64": (regressor, dense, {"dtype": "float64", "clipnorm": 0.01}),
    "warm-optimizer": (regressor, dense, {"solver": Adam(3e-3, beta_1=0.8, epsilon=1e-4)}),
    "large-batch": (regressor, dense, {"batch_size": 36, "learning_rate_init": 0.1}),
    "penalty": (regressor, dense, {"alpha": 0.1}),
    "absolute-error": (regressor, dense, {"loss": "mae"}),
    "early-stopping": (regressor, dense, {"early_stopping": True, "tol": 1e-4, "n_iter_no_change": 1}),
    "dropout": (regressor, dense, {"dropout": 0.2, "recurrent_dropout": 0.1, "bidirectional": True}),
    "sgd-clipped": (classifier, lambda rng: labelled(dense(rng)), {"solver": "sgd", "clipnorm": 0.1}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_model_equals_its_single_fit(name, rng):
    make, data_of, options = CASES[name]
    estimator, data = make(**options), data_of(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        models = fit_many(estimator, data, n_jobs=2)
        singles = [clone(estimator).fit(X, y) for X, y in data]
    for many, single, (X, _) in zip(models, singles, data, strict=True):
        assert_same(many, single)
        if is_regressor(many):
            np.testing.assert_allclose(many.predict(X), single.predict(X), rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_allclose(many.predict_proba(X), single.predict_proba(X), rtol=1e-4, atol=1e-5)
    assert len({model.loss_ for model in models}) == len(models)  # not one model several times
    assert "model_" not in vars(estimator)


@pytest.mark.parametrize(
    ("make", "options", "data_of", "expected"),
    [
        (regressor, {}, dense, True),
        (regressor, {"dtype": "float64", "cell": "lstm"}, dense, True),
        (classifier, {"cell": "simple_rnn"}, lambda rng: labelled(dense(rng)), True),
        (classifier, {}, lambda rng: [(x, np.digitize(y, [-1, 1])) for x, y in dense(rng)], True),
        (regressor, {"dropout": 0.1}, dense, False),
        (regressor, {"units": (4, 4)}, dense, False),
        (regressor, {"bidirectional": True}, dense, False),
        (regressor, {"solver": "sgd"}, dense, False),
        (regressor, {"alpha": 0.1}, dense, False),
        (regressor, {"cell": "indrnn"}, dense, False),
        (regressor, {}, ragged, False),
    ],
)
@pytest.mark.skipif(PLAIN, reason="the stock path prepares no calls")
def test_steps_are_prepared_where_that_is_possible(make, options, data_of, expected, rng, monkeypatch):
    used, run = [], PreparedEpochs.run
    monkeypatch.setattr(PreparedEpochs, "run", lambda *a: (done := run(*a), used.append(done))[0])
    data = data_of(rng)
    fit_many(make(**options), data)
    assert sum(used) == (5 * 3 if expected else 0)
    make(**options).fit(*data[0])
    assert sum(used) == (5 * 3 if expected else 0)  # not in a fit of two batches by itself


def test_overflow_in_a_prepared_step_is_that_of_a_single_fit(rng):
    X, y = dense(rng, 1)[0]
    # The first update makes weights whose squared error overflows in the second step, the first that is prepared.
    estimator = regressor(normalize_y=False, learning_rate_init=1e20, clipnorm=None)
    with pytest.raises(NonFiniteLossError) as single:
        estimator.fit(X, y)
    (many,) = fit_many(estimator, [(X, y)], on_error="return")
    assert isinstance(many, NonFiniteLossError)
    assert str(many) == f"data[0]: {single.value}"


def test_fit_parameters_reach_their_own_model(rng):
    data = [(X, y, {"sample_weight": rng.uniform(0.1, 2, len(y))}) for X, y in dense(rng)]
    data[1] = data[1][:2]
    models = fit_many(regressor(), data, n_jobs=2)
    for model, item in zip(models, data, strict=True):
        assert_same(model, regressor().fit(item[0], item[1], **dict(*item[2:])))
    assert models[0].loss_ != regressor().fit(*data[0][:2]).loss_


def test_estimators_may_differ(rng):
    data = dense(rng, 3)
    estimators = [regressor(units=2), make_pipeline(StandardScaler3D(), regressor()), regressor(cell="lstm")]
    models = fit_many(estimators, data, n_jobs=2)
    assert_same(models[0], regressor(units=2).fit(*data[0]))
    assert_same(models[1][-1], clone(estimators[1]).fit(*data[1])[-1])
    assert_same(models[2], regressor(cell="lstm").fit(*data[2]))


def test_number_of_threads_does_not_change_models(rng):
    data = dense(rng)
    for models in zip(*(fit_many(regressor(), data, n_jobs=n) for n in (None, 1, 2, -1)), strict=True):
        for model in models[1:]:
            np.testing.assert_array_equal(model.model_.params, models[0].model_.params)


def test_any_estimator_of_scikit_learn_can_be_fitted(rng):
    data = [(x[:, -1], y) for x, y in dense(rng, 3)]
    for model, (x, y) in zip(fit_many(LinearRegression(), iter(data), n_jobs=2), data, strict=True):
        np.testing.assert_array_equal(model.coef_, LinearRegression().fit(x, y).coef_)


def test_no_data_gives_no_models():
    assert fit_many(regressor(), []) == []


def test_results_can_be_pickled_and_trained_on(rng):
    data = dense(rng, 2)
    for model, (X, y) in zip(pickle.loads(pickle.dumps(fit_many(regressor(), data))), data, strict=True):
        assert_same(model.partial_fit(X, y), regressor().fit(X, y).partial_fit(X, y))


class Config(BaseEstimator):
    """Keeps the settings under which it was fitted."""

    def fit(self, X, y):
        self.config_ = sklearn.get_config()
        return self


def test_settings_of_scikit_learn_hold_in_the_threads(rng):
    with sklearn.config_context(enable_metadata_routing=True):
        models = fit_many(Config(), dense(rng, 3), n_jobs=2)
    assert all(model.config_["enable_metadata_routing"] for model in models)


def test_progress_bar_counts_models(rng, capsys):
    fit_many(regressor(max_iter=1), dense(rng, 3), n_jobs=2, verbose=True)
    assert "3/3" in capsys.readouterr().err


# -- errors


@pytest.fixture
def begun(monkeypatch):
    """The number of fits that began."""
    fits, fit = [], RNNRegressor.fit
    monkeypatch.setattr(RNNRegressor, "fit", lambda self, *a, **k: (fits.append(0), fit(self, *a, **k))[1])
    return fits


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda X, y: (X, y[:-1]), ValueError, r"data\[2\]: .*36.*35"),
        (lambda X, y: (np.where(X > 2, np.nan, X), y), ValueError, r"data\[2\]: .*NaN"),
        (lambda X, y: (X[0, 0], y), ValueError, r"data\[2\]: "),
        (lambda X, y: (X, None), ValueError, r"data\[2\]: .*requires y"),
        (lambda X, y: (X,), TypeError, r"data\[2\] is a tuple of 1: give a tuple \(X, y\)"),
        (lambda X, y: X, TypeError, r"data\[2\] is a ndarray: give a tuple"),
        (lambda X, y: (X, y, y), TypeError, r"data\[2\]: the third part is a ndarray: give a dict"),
        (lambda X, y: (X, y, {"sample_weight": -y}), ValueError, r"data\[2\]: Negative"),
        (lambda X, y: (X, y, {"weight": y}), TypeError, r"data\[2\]: .*weight"),
        (lambda X, y: (X, y, {"validation_data": (X, y)}), ValueError, r"data\[2\]: .*early_stopping"),
    ],
)
def test_invalid_data_are_named_before_any_model_is_trained(spoil, error, message, rng, begun):
    data = dense(rng, 4)
    data[2] = spoil(*data[2])
    with pytest.raises(error, match=message):
        fit_many(regressor(), data, n_jobs=2)
    assert not begun


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((RNNRegressor, [(1, 1)]), TypeError, "estimator=.*give an estimator"),
        (([regressor()], []), ValueError, "estimator is a list of 1, data has 0"),
        ((regressor(), 3), TypeError, "data=3: give a list of tuples"),
        ((regressor(), {"a": 1}), TypeError, "data=.*give a list of tuples"),
        ((regressor(units=-1), [(np.ones((4, 2, 1)), np.arange(4))]), ValueError, r"data\[0\]: .*units"),
    ],
)
def test_invalid_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fit_many(*arguments)


def test_invalid_options_are_refused(rng):
    for options in ({"on_error": "ignore"}, {"n_jobs": 0}, {"n_jobs": 1.5}, {"verbose": "yes"}):
        with pytest.raises((TypeError, ValueError), match=next(iter(options))):
            fit_many(regressor(), dense(rng, 1), **options)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_failed_fit_names_its_data_and_keeps_the_finished_models(n_jobs, rng):
    data, estimators = dense(rng), [regressor() for _ in range(5)]
    estimators[3] = regressor(learning_rate_init=1e38, normalize_y=False, solver="sgd")
    with pytest.raises(NonFiniteLossError, match=r"data\[3\]: the loss") as caught:
        fit_many(estimators, data, n_jobs=n_jobs)
    finished = caught.value.fitted
    assert len({0, 1, 2} & set(finished)) >= 2  # with two threads, one may still run when data[3] fails
    assert 3 not in finished
    for i, model in finished.items():
        assert_same(model, regressor().fit(*data[i]))
    models = fit_many(estimators, data, n_jobs=n_jobs, on_error="return")
    assert isinstance(models[3], NonFiniteLossError)
    assert str(models[3]).startswith("data[3]: ")
    assert_same(models[4], regressor().fit(*data[4]))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_interrupt_is_raised_with_the_finished_models(n_jobs, rng):
    data, numbers, raised = dense(rng, 8), itertools.count(1), threading.Event()
    begun, ended = [], []

    class Stops(RNNRegressor):
        def fit(self, X, y):
            number = next(numbers)  # atomic, so that one thread alone is the fifth
            begun.append(number)
            if number > 4:  # four models are complete, or three and one that runs
                if number == 5:
                    signal.raise_signal(signal.SIGINT)  # Python's handler runs in the main thread
                raised.wait(HANG_SECONDS)
            try:
                return super().fit(X, y)
            finally:
                ended.append(number)

    options = regressor().get_params()
    with pytest.raises(KeyboardInterrupt) as caught:
        fit_many(Stops(**options), data, n_jobs=n_jobs)
    finished = dict(caught.value.fitted)
    raised.set()
    assert eventually(lambda: len(ended) == len(begun))  # no thread goes on in the next test
    assert max(begun) <= 4 + n_jobs
    assert set(finished) <= set(range(5))
    assert len(finished) >= 3
    for i, model in finished.items():
        assert_same(model, regressor().fit(*data[i]))


# -- searches


def prepared_steps(monkeypatch):
    """The list in which the preparations of steps will be noted, by thread."""
    made, plain = [], prepared._prepare

    def noted(model, batch):
        step = plain(model, batch)
        if step is not None:
            made.append(threading.current_thread())
        return step

    monkeypatch.setattr(prepared, "_prepare", noted)
    return made


@pytest.mark.parametrize("backend", ["threading", "fastrnn"])
def test_search_with_threads_equals_search_without(backend, rng, monkeypatch):
    made = prepared_steps(monkeypatch)
    X, y = dense(rng, 1, 60)[0]
    grid = {"rnnregressor__units": [2, 5], "rnnregressor__cell": ["gru", "lstm"]}
    pipeline = make_pipeline(StandardScaler3D(), regressor(alpha=0))
    alone = GridSearchCV(pipeline, grid, cv=3, n_jobs=1).fit(X, y)
    assert not made
    with parallel_config(backend=backend):
        shared = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)
    for key, values in alone.cv_results_.items():
        if "test_score" in key and "rank" not in key:
            # A prepared step has the same numbers but for rounding.
            np.testing.assert_allclose(
                shared.cv_results_[key], values, rtol=1e-5 if backend == "fastrnn" else 0, atol=1e-6
            )
        elif "time" not in key:
            np.testing.assert_array_equal(shared.cv_results_[key], values)
    assert shared.best_params_ == alone.best_params_
    assert_same(shared.best_estimator_[-1], alone.best_estimator_[-1])
    if backend == "threading" or PLAIN:
        assert not made
    else:
        assert (
            len(made) >= 12
        )  # each of the fits in folds, and none in this thread, where the best one is fitted again
        assert threading.current_thread() not in made


def test_search_of_ragged_sequences_with_the_backend_equals_search_without(rng):
    X, y = ragged(rng, 1)[0]
    searches = [GridSearchCV(regressor(), {"units": [2, 4]}, cv=3) for _ in range(2)]
    alone = searches[0].fit(X, y)
    with parallel_config(backend="fastrnn", n_jobs=2):
        shared = searches[1].fit(X, y)
    np.testing.assert_array_equal(shared.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    with parallel_config(backend="fastrnn", n_jobs=2):
        again = cross_val_score(regressor(), X, y, cv=3)
    np.testing.assert_array_equal(again, cross_val_score(regressor(), X, y, cv=3))


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_search_with_the_backend_reports_failed_fits_as_usual(rng):
    X, y = dense(rng, 1, 30)[0]
    grid = {"units": [2, -1]}
    with parallel_config(backend="fastrnn", n_jobs=2), pytest.warns(FitFailedWarning, match="units"):
        search = GridSearchCV(regressor(), grid, cv=3).fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
    with parallel_config(backend="fastrnn", n_jobs=2), pytest.raises(ValueError, match="units"):
        GridSearchCV(regressor(), grid, cv=3, error_score="raise").fit(X, y)


def test_backend_is_known_once_the_estimators_are_imported():
    code = (
        "import joblib, fastrnn.estimators\nwith joblib.parallel_config(backend='fastrnn', n_jobs=2):\n"
        "    print(joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 1, 2]"
