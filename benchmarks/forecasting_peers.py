"""What other packages do on the data of :mod:`benchmarks.forecasting`: errors, and seconds on the same cores."""

from __future__ import annotations

import datetime
import importlib.util
import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

Row = dict[str, Any]
#: Options of neuralforecast's trainer, which writes no files and shows no bars.
_QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def installed(*names: str) -> bool:
    """Whether modules are there; says which is not."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: left out")
            return False
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and no notes of the trainer."""
    for name in ("pytorch_lightning", "lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def alone(measure: Callable[..., list[Row]], *arguments: Any) -> list[Row]:
    """Rows of a peer that is measured in a process of its own, where our threads and kernels are not."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def long_frame(series: list[Any]) -> Any:
    """Series as a long frame whose time is counted by integers."""
    import pandas as pd

    parts = [pd.DataFrame({"unique_id": i, "ds": np.arange(len(y)), "y": y}) for i, y in enumerate(series)]
    return pd.concat(parts, ignore_index=True)


def statistical(name: str, train: list[Any], horizon: int, season: int, errors: Callable) -> list[Row]:
    """Theta of statsforecast."""
    if not installed("statsforecast"):
        return []
    from statsforecast import StatsForecast
    from statsforecast.models import Theta

    peer = StatsForecast(models=[Theta(season_length=season)], freq=1, n_jobs=os.cpu_count())
    frame = long_frame(train)
    with quiet():
        out, seconds = timed(lambda: peer.forecast(df=frame, h=horizon))
    values = out["Theta"].to_numpy().reshape(-1, horizon)
    return [{"data": name, "model": "statsforecast Theta", "fit_s": seconds} | errors(values)]


#: Recurrent networks of neuralforecast. The defaults are two layers of 128 units that read 144 steps; the others read a week
#: and need less time for an update.
_SMALL: Row = {"input_size": 168, "encoder_n_layers": 1, "encoder_hidden_size": 64}
RECURRENT: list[tuple[str, Row]] = [("LSTM", {}), ("LSTM", _SMALL), ("GRU", _SMALL)]


def recurrent(
    name: str, train: list[Any], horizon: int, seconds: float, errors: Callable, model: str, settings: Row
) -> list[Row]:
    """A recurrent network of neuralforecast after at most 1000 updates, or `seconds` if they are not done by then."""
    if not installed("neuralforecast"):
        return []
    from neuralforecast import NeuralForecast, models

    frame = long_frame(train)
    with quiet():
        limit = datetime.timedelta(seconds=seconds)
        network = getattr(models, model)(h=horizon, max_time=limit, **settings, **_QUIET)
        peer = NeuralForecast(models=[network], freq=1)
        cpu = time.process_time()
        _, fit_s = timed(lambda: peer.fit(df=frame))
        cpu, updates = time.process_time() - cpu, len(peer.models[0].train_trajectories)
        out, predict_s = timed(peer.predict)
    values = out[model].to_numpy().reshape(-1, horizon)
    words = ", ".join(f"{key}={value!r}" for key, value in settings.items()) or "defaults"
    row = {"data": name, "model": f"neuralforecast {model}, {words}", "updates": updates}
    return [row | {"fit_s": fit_s, "fit_cpu_s": cpu, "predict_s": predict_s} | errors(values)]


def nlinear(
    y: Any, horizon: int, n_train: int, n_validation: int, n_test: int, seeds: Sequence[int]
) -> list[Row]:
    """NLinear of neuralforecast on all windows of the test part, stopped early by the validation part."""
    if not installed("neuralforecast"):
        return []
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import NLinear

    frame = long_frame([y[: n_train + n_validation + n_test]])
    errors, times = [], []
    for seed in seeds:
        model = NLinear(
            h=horizon,
            input_size=336,
            loss=MSE(),
            learning_rate=1e-3,
            max_steps=3000,
            early_stop_patience_steps=5,
            val_check_steps=100,
            windows_batch_size=256,
            random_seed=seed,
            **_QUIET,
        )
        with quiet():
            peer = NeuralForecast(models=[model], freq=1)
            out, seconds = timed(
                lambda p=peer: p.cross_validation(
                    df=frame, val_size=n_validation, test_size=n_test, n_windows=None, step_size=1
                )
            )
        errors.append(float(np.mean((out["NLinear"].to_numpy() - out["y"].to_numpy()) ** 2)))
        times.append(seconds)
    return [
        {
            "data": f"ETTh1 OT, horizon {horizon}",
            "model": f"neuralforecast NLinear, window 336, mean of {len(seeds)} seeds",
            "fit_s": min(times),
            "mse": float(np.mean(errors)),
            "best_mse": min(errors),
            "worst_mse": max(errors),
            "windows": len(out) // horizon,
        }
    ]


def backtests(y: Any, start: int, horizon: int) -> list[Row]:
    """Backtests of one series from each step of `start` on, without a new fit."""
    return [*_darts_backtest(y, start, horizon), *_neuralforecast_backtest(y, start, horizon)]


def _darts_backtest(y: Any, start: int, horizon: int) -> list[Row]:
    if not installed("darts", "torch"):
        return []
    from darts import TimeSeries
    from darts.models import BlockRNNModel

    series = TimeSeries.from_values(y.astype(np.float32))
    options = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    with quiet():
        model = BlockRNNModel(
            input_chunk_length=168,
            output_chunk_length=horizon,
            model="GRU",
            hidden_dim=48,
            n_epochs=1,
            pl_trainer_kwargs=options,
        ).fit(series[:start])
        forecasts, seconds = timed(
            lambda: model.historical_forecasts(
                series,
                start=start,
                forecast_horizon=horizon,
                retrain=False,
                last_points_only=False,
                verbose=False,
            )
        )
    model_name = "darts BlockRNNModel, historical_forecasts(retrain=False)"
    return [_backtest_row(model_name, seconds, len(forecasts))]


def _neuralforecast_backtest(y: Any, start: int, horizon: int) -> list[Row]:
    if not installed("neuralforecast"):
        return []
    from neuralforecast import NeuralForecast
    from neuralforecast.models import GRU

    n_test = len(y) - start
    with quiet():
        model = GRU(h=horizon, input_size=168, encoder_hidden_size=48, max_steps=1, **_QUIET)
        peer = NeuralForecast(models=[model], freq=1)
        out, seconds = timed(
            lambda: peer.cross_validation(
                df=long_frame([y]), n_windows=None, test_size=n_test, step_size=1, refit=False
            )
        )
    model_name = "neuralforecast GRU, cross_validation(refit=False) with one update"
    return [_backtest_row(model_name, seconds, len(out) // horizon)]


def _backtest_row(model: str, seconds: float, n_origins: int) -> Row:
    return {
        "data": "speed, one series",
        "model": model,
        "origins": n_origins,
        "backtest_of_1000_origins_ms": 1e6 * seconds / n_origins,
    }
