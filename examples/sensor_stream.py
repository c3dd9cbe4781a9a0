"""A classifier that watches sensors sample by sample, and how long an answer takes.

Trained on whole recordings, it then gives a probability of a fault after each sample of a stream: for one sensor, whose
latency is shown in percentiles beside that of the network's own stream, and for several sensors of which some miss samples.

python examples/sensor_stream.py [--steps 20000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from fastrnn import RNNClassifier


def recordings(n: int, n_steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vibration in two axes; a faulty bearing adds knocks at every ninth step."""
    X = rng.normal(size=(n, n_steps, 2))
    faulty = rng.uniform(size=n) < 0.5
    knocks = np.arange(n_steps) % 9 == rng.integers(0, 9, n)[:, None]
    X[..., 0] += 2.5 * (knocks & faulty[:, None])
    return X.astype("float32"), np.where(faulty, "faulty", "sound")


def latencies(step: Callable[[np.ndarray], np.ndarray], samples: np.ndarray) -> np.ndarray:
    """Microseconds of each step."""
    taken = np.empty(len(samples))
    for i in range(len(samples)):
        x = samples[i : i + 1]
        start = time.perf_counter_ns()
        step(x)
        taken[i] = (time.perf_counter_ns() - start) / 1000
    return taken


def main(steps: int = 20000) -> None:
    """Train, compare the stream with `predict`, time it, and leave out samples."""
    rng = np.random.default_rng(0)
    X, y = recordings(300, 60, rng)
    model = RNNClassifier(
        cell="gru", units=32, learning_rate_init=0.01, max_iter=25, tol=None, random_state=0
    ).fit(X[:200], y[:200])
    print(f"accuracy on recordings that were not trained on: {model.score(X[200:], y[200:]):.2f}")

    stream = model.stream(method="predict_proba")
    for t, sample in enumerate(X[200], start=1):
        now = stream.step(sample)
        if t in (1, 10, 30, 60):
            difference = np.abs(now - model.predict_proba(X[200:201, :t])).max()
            print(
                f"after {t:2} samples: P({model.classes_[0]}) = {now[0, 0]:.3f}, from predict_proba by {difference:.0e}"
            )

    samples = np.concatenate(list(recordings(1, steps, rng)[0]))
    print(
        f"\nlatency in microseconds over {steps} samples\n{'':12}{'p50':>7}{'p90':>7}{'p99':>7}{'p99.9':>7}"
    )
    for name, one in (("estimator", stream.reset()), ("network", model.model_.stream())):
        latencies(one.step, samples[:1000])
        print(
            f"{name:12}"
            + "".join(f"{p:7.2f}" for p in np.percentile(latencies(one.step, samples), (50, 90, 99, 99.9)))
        )

    sensors = model.stream(n_series=5, method="predict_proba", missing="skip")
    for t in range(60):
        x = X[200:205, t].copy()
        x[2] = np.nan  # a broken cable: as if there were no sample
        last = sensors.step(x, where=rng.uniform(size=5) < 0.9)
    print("\nfive sensors, a tenth of the samples lost, the third always:", np.round(last[:, 0], 2))
    sensors.reset([2])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=20000)
    main(parser.parse_args().steps)
