"""Ctrl-C in `fit` of the estimators is raised, and what was learned until then is kept."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.preprocessing import StandardScaler3D
from fastrnn.training.step import Trainer


@pytest.fixture
def data(rng):
    X = rng.normal(size=(40, 5, 2))
    return X, (X.sum(axis=(1, 2)) > 0).astype(int)


def estimator(kind=RNNClassifier, **options):
    """Two batches an epoch."""
    return kind(**{"units": 3, "batch_size": 20, "max_iter": 10, "tol": None, "random_state": 0} | options)


@pytest.fixture
def interrupt_at(monkeypatch):
    """Interrupts a training batch, counted from 0; gives the list of the batches that began."""
    step = Trainer.train

    def install(batch, spoil=False):
        begun = []

        def train(trainer, model, *arguments):
            begun.append(0)
            if len(begun) == batch + 1:
                if spoil:
                    model.params = np.full(model.params.shape, np.nan)
                raise KeyboardInterrupt
            return step(trainer, model, *arguments)

        monkeypatch.setattr(Trainer, "train", train)
        return begun

    yield install
    monkeypatch.undo()


@pytest.mark.parametrize("batch", [2, 3, 7])
@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_interrupted_fit_keeps_the_last_weights(kind, batch, data, interrupt_at, monkeypatch):
    X, y = data[0], data[1] * 100.0 + 1000 if kind is RNNRegressor else data[1]
    made = estimator(kind)
    interrupt_at(batch)
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, y)
    assert made.n_iter_ == batch // 2
    assert len(made.loss_curve_) == batch // 2
    monkeypatch.undo()
    if batch % 2 == 0:  # between two epochs
        other = estimator(kind, max_iter=batch // 2).fit(X, y)
        np.testing.assert_array_equal(made.predict(X), other.predict(X))
        assert made.loss_curve_ == other.loss_curve_
    assert np.isfinite(made.score(X, y))
    made.partial_fit(X, y)
    assert made.n_iter_ == batch // 2 + 1


@pytest.mark.parametrize("fitted", [False, True])
def test_fit_interrupted_in_its_first_epoch_leaves_the_object_as_it_was(fitted, data, interrupt_at):
    made = estimator(max_iter=1)
    if fitted:
        made.fit(*data)
    before = dict(vars(made))
    weights = made.model_.params.copy() if fitted else None
    made.set_params(max_iter=10)
    for warm_start in (False, True):
        made.set_params(warm_start=warm_start)
        interrupt_at(1)
        with pytest.raises(KeyboardInterrupt):
            made.fit(*data)
    assert vars(made) == before | {"max_iter": 10, "warm_start": True}
    if fitted:
        np.testing.assert_array_equal(made.model_.params, weights)


def test_interrupted_fit_goes_back_to_finite_weights(data, interrupt_at, monkeypatch):
    made = estimator()
    interrupt_at(5, spoil=True)
    with pytest.raises(KeyboardInterrupt):
        made.fit(*data)
    monkeypatch.undo()
    assert np.isfinite(made.model_.params).all()
    other = estimator(max_iter=2).fit(*data)
    np.testing.assert_array_equal(made.predict_proba(data[0]), other.predict_proba(data[0]))


def test_interrupted_fit_keeps_the_best_weights_with_early_stopping(data, interrupt_at, monkeypatch):
    made = estimator(early_stopping=True, learning_rate_init=0.05)
    interrupt_at(9)
    with pytest.raises(KeyboardInterrupt):
        made.fit(*data, validation_data=data)
    monkeypatch.undo()
    assert len(made.validation_scores_) == 4
    assert made.score(*data) == max(made.validation_scores_) == made.best_validation_score_


@pytest.mark.parametrize("search", ["grid", "cross-validation", "pipeline"])
def test_interrupt_ends_a_search(search, data, interrupt_at):
    """The fits that would follow are not begun."""
    pipeline = make_pipeline(StandardScaler3D(), estimator())
    begun = interrupt_at(4)
    calls = {
        "grid": GridSearchCV(pipeline, {"rnnclassifier__units": [2, 3]}, n_jobs=1, cv=2).fit,
        "cross-validation": lambda X, y: cross_val_score(pipeline, X, y, n_jobs=1, cv=2),
        "pipeline": pipeline.fit,
    }
    with pytest.raises(KeyboardInterrupt):
        calls[search](*data)
    assert len(begun) == 5
    if search == "pipeline":
        assert pipeline[-1].n_iter_ == 2
