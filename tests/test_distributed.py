"""Training on the workers of a dask cluster."""

import logging

import joblib
import numpy as np
import pytest

from fastrnn import RNNClassifier, RNNRegressor, load
from fastrnn.estimators import search_progress

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:Creating scratch"
)

import dask.array as da  # noqa: E402

from fastrnn.distributed import (  # noqa: E402
    DaskRNNClassifier,
    DaskRNNRegressor,
    communication,
    workers,  # noqa: E402
)
from fastrnn.distributed.cluster import Cluster, Numbers, _Gradients  # noqa: E402
from tests.limits import HANG_SECONDS, eventually  # noqa: E402
from tests.lost_workers import kill_in_step  # noqa: E402

X = np.random.default_rng(0).standard_normal((90, 6, 3))
Y = np.array(["low", "middle", "high"])[np.digitize(X[:, :, 0].mean(axis=1), [-0.2, 0.2])]
OPTIONS = {"cell": "gru", "units": 5, "batch_size": 32, "max_iter": 4, "tol": None, "random_state": 0}


def local_cluster(n_workers=2, **options):
    # Without a limit of memory: workers in this process would stop for what other tests have allocated in it.
    return distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, memory_limit=None, dashboard_address=":0", **options
    )


@pytest.fixture(scope="module")
def client():
    with local_cluster(processes=False) as cluster, distributed.Client(cluster) as client:
        yield client


def spread(array, rows=20):
    return da.from_array(array, chunks=(rows, *[-1] * (array.ndim - 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    # With weights of classes in batches of all samples, as in the next test.
    [
        {},
        {"alpha": 0.01, "clipnorm": 0.5},
        {"alpha": 0.01, "class_weight": "balanced", "batch_size": 90},
    ],
    ids=["plain", "clipped", "classes"],
)
def test_dask_classifier_equals_one_process_with_the_same_batch(client, dtype, options):
    one = RNNClassifier(dtype=dtype, **{**OPTIONS, **options}).fit(X, Y)
    many = DaskRNNClassifier(dtype=dtype, **{**OPTIONS, **options}).fit(spread(X), spread(Y))
    tolerance = 1e-5 if dtype == "float32" else 1e-11
    for ours, theirs in zip(many.model_.get_weights(), one.model_.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    np.testing.assert_allclose(many.loss_curve_, one.loss_curve_, rtol=1e-5)
    lazy = many.predict(spread(X))
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(), one.predict(X))
    probabilities = many.predict_proba(spread(X))
    assert probabilities.shape == (90, 3)
    np.testing.assert_allclose(probabilities.compute(), one.predict_proba(X), atol=1e-4)
    assert many.score(X, Y) == one.score(X, Y)


def test_dask_classifier_with_weights_equals_one_process(client, rng):
    """In batches of all samples, as their order may depend on what X holds if there are weights."""
    weight = rng.random(len(X))
    options = {**OPTIONS, "batch_size": len(X)}
    one = RNNClassifier(**options).fit(X, Y, weight)
    many = DaskRNNClassifier(**options).fit(spread(X), Y, spread(weight))
    for ours, theirs in zip(many.model_.get_weights(), one.model_.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_dask_classifier_of_tokens_equals_one_process(client, rng):
    tokens, labels = rng.integers(0, 30, (64, 7)), rng.integers(0, 2, 64)
    options = {**OPTIONS, "vocabulary_size": 30, "embedding_dim": 4}
    one = RNNClassifier(**options).fit(tokens, labels)
    many = DaskRNNClassifier(**options).fit(spread(tokens), labels)
    for ours, theirs in zip(many.model_.get_weights(), one.model_.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_dask_regressor_equals_one_process(client, n_outputs):
    targets = X[:, -1, 0] if n_outputs == 1 else X[:, -1, :2]
    one = RNNRegressor(**OPTIONS).fit(X, targets)
    many = DaskRNNRegressor(**OPTIONS).fit(spread(X), spread(targets))
    lazy = many.predict(spread(X))
    assert lazy.shape == targets.shape
    np.testing.assert_allclose(lazy.compute(), one.predict(X), atol=2e-5)


@pytest.mark.parametrize("kind", [DaskRNNClassifier, DaskRNNRegressor])
def test_dask_estimators_are_saved(client, kind, tmp_path):
    targets = Y if kind is DaskRNNClassifier else X[:, -1, 0]
    many = kind(**{**OPTIONS, "max_iter": 1}).fit(spread(X), targets)
    many.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert type(again) is kind
    np.testing.assert_array_equal(again.predict(X), many.predict(X))


def test_dask_training_survives_a_lost_worker(caplog, monkeypatch):
    """A worker's process is killed while it trains: the weights are those of an undisturbed training."""
    caplog.set_level(logging.WARNING, "fastrnn.distributed")
    options = {**OPTIONS, "max_iter": 20, "dtype": "float64"}
    with local_cluster() as cluster, distributed.Client(cluster) as client:
        kill_in_step(8, client, monkeypatch)
        many = DaskRNNClassifier(**options).fit(spread(X), Y, client=client)
    one = RNNClassifier(**options).fit(X, Y)
    assert many.n_iter_ == 20
    for ours, theirs in zip(many.model_.get_weights(), one.model_.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    assert "was lost" in caplog.text


def handlers_of_fits(client):
    """Names under which workers pass requests on to tasks of fits."""

    def names(dask_worker):
        return [name for name in dask_worker.handlers if str(name).startswith("fastrnn-")]

    return [name for found in client.run(names).values() for name in found]


def test_dask_training_through_the_scheduler_equals_direct_training(client, monkeypatch):
    """Where the calling process can't connect to the workers, the scheduler passes messages on."""
    direct = DaskRNNClassifier(**OPTIONS).fit(spread(X), Y)
    asked = []

    async def unreachable(self, address):
        asked.append(address)
        return False

    monkeypatch.setattr(workers.Workers, "_reachable", unreachable)
    passed_on = DaskRNNClassifier(**OPTIONS).fit(spread(X), Y)
    assert len(set(asked)) == 2
    for ours, theirs in zip(passed_on.model_.get_weights(), direct.model_.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_dask_training_starts_tasks_again_that_have_ended(client, monkeypatch, caplog):
    """They end if the calling process is silent for long, as it may be gone."""
    gradient = Cluster.gradient

    def slow(self, *arguments):
        assert eventually(lambda: "no request for" in caplog.text)
        # Tasks that are started from now on have time to be asked, on any machine.
        monkeypatch.setattr(workers, "SILENCE_SECONDS", HANG_SECONDS)
        return gradient(self, *arguments)

    monkeypatch.setattr(workers, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(Cluster, "gradient", slow)
    options = {**OPTIONS, "max_iter": 1}
    one = DaskRNNClassifier(**options).fit(spread(X), Y)
    monkeypatch.undo()
    again = DaskRNNClassifier(**options).fit(spread(X), Y)
    assert "no request for" in caplog.text
    for ours, theirs in zip(again.model_.get_weights(), one.model_.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_dask_training_raises_the_error_of_a_worker_and_ends_its_tasks(client, monkeypatch):
    def fails(self, *arguments):
        raise FileNotFoundError("no such block")

    model = DaskRNNClassifier(**OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(_Gradients, "__call__", fails)
        with pytest.raises(FileNotFoundError, match="no such block"):
            model.fit(spread(X), Y)
    assert "model_" not in vars(model)
    assert handlers_of_fits(client) == []
    model.fit(spread(X), Y)
    assert handlers_of_fits(client) == []


def test_dask_bad_input_is_refused_before_any_work(client):
    model = DaskRNNClassifier(**OPTIONS)
    with pytest.raises(TypeError, match=r"X is ndarray.*dask.array.from_array"):
        model.fit(X, Y)
    with pytest.raises(ValueError, match=r"shape \(90, 3\)"):
        model.fit(spread(X[:, 0]), Y)
    for name, value in (
        ("dropout", 0.1),
        ("stateful", True),
        ("return_sequences", True),
        ("early_stopping", True),
    ):
        with pytest.raises(ValueError, match=f"{name}=.*can't be used on a cluster"):
            DaskRNNClassifier(**OPTIONS, **{name: value}).fit(spread(X), Y)
    with pytest.raises(ValueError, match="inconsistent"):
        model.fit(spread(X), Y[:-1])
    assert "model_" not in vars(model)
    assert "_cluster" not in vars(model)


def test_dask_cluster_without_workers_is_named(client):
    with (
        local_cluster(0, processes=False) as cluster,
        distributed.Client(cluster, set_as_default=False) as empty,
        pytest.raises(RuntimeError, match=r"has no workers: start some with cluster.scale\(2\)"),
    ):
        DaskRNNClassifier(**OPTIONS).fit(spread(X), Y, client=empty)


def test_grid_search_runs_on_a_dask_cluster_with_a_progress_bar(client, capsys):
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(RNNClassifier(**OPTIONS), {"units": [3, 5]}, cv=3)
    alone = {**search.fit(X, Y).cv_results_}
    with joblib.parallel_config("dask"), search_progress(search):
        search.fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone["mean_test_score"])
    assert "6/6" in capsys.readouterr().err


@pytest.mark.parametrize("size", [None, 2, 30])
def test_numbers_of_samples_are_read_as_they_were_written(size):
    for n in (1, 5000, 2**22 + 5 if size is None else 90):
        numbers = Numbers(n, size)
        written = numbers.write((n, 9, 1), np.float32)
        np.testing.assert_array_equal(numbers.read(written), np.arange(n))


def test_communication_counts_bytes_and_seconds():
    found = communication(4, 1000, 1e6, 1e-3)
    assert found == (32_000, 0.032, 128)
    for bad in ((0, 1, 1.0, 1.0), (1, 1, 0.0, 1.0), (1, 1, 1.0, -1.0)):
        with pytest.raises(ValueError):
            communication(*bad)
