"""Forecasters whose series are spread over the workers of a dask cluster."""

import logging

import numpy as np
import pytest

from fastrnn import load
from fastrnn.forecasting import RNNForecaster

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:Creating scratch"
)

from fastrnn.distributed import DaskRNNForecaster  # noqa: E402
from fastrnn.distributed import series as module  # noqa: E402
from tests.lost_workers import kill_in_step  # noqa: E402

RNG = np.random.default_rng(0)
LENGTHS = (90, 40, 75, 61, 90, 33, 52, 88, 45)
SERIES = [10 + np.sin(np.arange(n) / 2 + k) + RNG.normal(scale=0.1, size=n) for k, n in enumerate(LENGTHS)]
SERIES[1][7:9] = np.nan
OPTIONS = {
    "horizon": 4, "season_length": 12, "units": 5, "max_iter": 4, "batch_size": 4, "truncated_bptt_steps": 16,
    "dropout": 0, "random_state": 0,
}  # fmt: skip


def cluster(**options):
    # Without a limit of memory: workers in this process would stop for what other tests have allocated in it.
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=None, dashboard_address=":0", **options
    )


@pytest.fixture(scope="module")
def client():
    with cluster(processes=False) as workers, distributed.Client(workers) as client:
        yield client


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cell": "lstm", "units": (4, 3)},
        {"quantiles": (0.1, 0.5, 0.9)},
        {"distribution": "student_t"},
        {"early_stopping": True},
        {"truncated_bptt_steps": 200},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_dask_forecaster_equals_one_process(client, options):
    one = RNNForecaster(**{**OPTIONS, **options}).fit(SERIES)
    many = DaskRNNForecaster(**{**OPTIONS, **options}).fit(SERIES, client=client)
    tolerance = 1e-11 if options.get("dtype") == "float64" else 1e-5
    for ours, theirs in zip(many.model_.get_weights(), one.model_.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    np.testing.assert_allclose(many.loss_curve_, one.loss_curve_, rtol=1e-4)
    for ours, theirs in zip(many.predict(), one.predict(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_dask_forecaster_keeps_the_series_on_the_workers_and_sends_them_once(client, monkeypatch):
    """Each sequence is held by one worker, and tasks of updates get numbers of sequences instead of their data."""
    seen = []
    compute = module._Series.compute

    def watched(self, arguments):
        seen.append((self, arguments))
        return compute(self, arguments)

    monkeypatch.setattr(module._Series, "compute", watched)
    DaskRNNForecaster(**OPTIONS).fit(SERIES)
    parts = seen[0][0]
    held = client.gather(parts.held)
    assert len(held) == 2
    counts = [sum(lengths) for _, _, lengths in held]
    assert max(counts) < 1.5 * min(counts)
    assert sorted(np.concatenate([lengths for *_, lengths in held])) == sorted(LENGTHS)
    states = 4 * OPTIONS["units"] * OPTIONS["batch_size"] * 2
    for _, arguments in seen:
        for weights, rows, *_ in arguments.values():
            assert rows.nbytes <= 8 * OPTIONS["batch_size"]
            assert weights.nbytes < 4000 + states


def test_dask_forecaster_survives_a_lost_worker(caplog, monkeypatch):
    one = RNNForecaster(**{**OPTIONS, "max_iter": 8}).fit(SERIES)
    with cluster() as workers, distributed.Client(workers) as client:
        kill_in_step(30, client, monkeypatch)
        with caplog.at_level(logging.WARNING, "fastrnn.distributed"):
            many = DaskRNNForecaster(**{**OPTIONS, "max_iter": 8}).fit(SERIES, client=client)
    assert "was lost" in caplog.text
    for ours, theirs in zip(many.model_.get_weights(), one.model_.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_dask_forecaster_goes_on_in_one_process_and_is_saved(client, tmp_path):
    many = DaskRNNForecaster(**OPTIONS).fit(SERIES)
    assert "_client" not in vars(many)
    many.save(tmp_path / "forecaster")
    again = load(tmp_path / "forecaster")
    assert type(again) is DaskRNNForecaster
    for ours, theirs in zip(again.predict(), many.predict(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    new = [series[-5:] for series in SERIES]
    assert np.isfinite(again.partial_fit(new).predict()[0]).all()


@pytest.mark.parametrize(
    "options", [{"dropout": "auto"}, {"dropout": 0.3}, {"recurrent_dropout": 0.2}], ids=str
)
def test_dask_forecaster_refuses_dropout_and_is_unchanged(client, options):
    forecaster = DaskRNNForecaster(**{**OPTIONS, **options})
    before = dict(vars(forecaster))
    with pytest.raises(ValueError, match="can't be used on a cluster: set both to 0"):
        forecaster.fit(SERIES)
    assert vars(forecaster) == before


def test_dask_forecaster_without_a_client_or_workers_says_so(monkeypatch):
    def no_client():
        raise ValueError("no client")

    monkeypatch.setattr(distributed, "default_client", no_client)
    with pytest.raises(ValueError, match="there is no dask client: make one"):
        DaskRNNForecaster(**OPTIONS).fit(SERIES)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        distributed.Client(empty) as client,
        pytest.raises(RuntimeError, match="has no workers: start some"),
    ):
        DaskRNNForecaster(**OPTIONS).fit(SERIES, client=client)
