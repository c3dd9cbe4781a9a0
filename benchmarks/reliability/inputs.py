"""(b) Random inputs to the estimators: shapes, dtypes, strides, byte orders, pandas, objects, huge, empty, not finite.

An input may be refused with ValueError or TypeError, as in scikit-learn, or be accepted; then outputs have one row for each
sequence, and if the input has the same numbers as a plain array, they are equal to that array's outputs.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.reliability.parts import Result
from fastrnn import RNNClassifier, RNNRegressor

Made = tuple[Any, np.ndarray | None]


def drawn(rng: np.random.Generator) -> Made:
    """An input, and the plain array with the same numbers, or None if any outcome is allowed."""
    n, t, f = int(rng.integers(1, 6)), int(rng.integers(1, 7)), 3
    plain = rng.normal(size=(n, t, f)).astype("float32")
    kind = int(rng.integers(18))
    if kind == 0:
        return plain[:, ::-1][:, ::-1], plain
    if kind == 1:
        return np.asfortranarray(plain), plain
    if kind == 2:
        return plain.astype(">f4"), plain
    if kind == 3:
        frozen = plain.copy()
        frozen.flags.writeable = False
        return frozen, plain
    if kind == 4:
        return plain.astype("float64"), plain
    if kind == 5:
        return np.repeat(plain, 2, axis=2)[:, :, ::2], plain
    if kind == 6:
        return [row for row in plain], plain  # noqa: C416 - a list of arrays is the point
    if kind == 7:
        return plain.tolist(), plain
    if kind == 8:
        return rng.integers(-100, 100, (n, t, f)).astype(
            str(rng.choice(["int8", "uint16", "int64", "bool"]))
        ), None
    if kind == 9:
        broken = plain.copy()
        broken.reshape(-1)[int(rng.integers(plain.size))] = rng.choice([np.nan, np.inf, -np.inf])
        return broken, None
    if kind == 10:
        return plain * np.float32(rng.choice([1e-42, 1e30, 1e38])), None
    if kind == 11:
        return rng.normal(size=tuple(rng.integers(0, 5, int(rng.integers(0, 5))))), None
    if kind == 12:
        return [
            rng.normal(size=(int(rng.integers(0, 6)), int(rng.choice([3, 3, 3, 2])))) for _ in range(n)
        ], None
    if kind == 13:
        return plain.astype(
            str(rng.choice(["float16", "complex64", "object", "U8", "S4", "M8[ns]", "longdouble"])),
            casting="unsafe",
        ) if rng.random() < 0.5 else plain.astype(object), None
    if kind == 14:
        import pandas

        return pandas.DataFrame(plain.reshape(n, -1)), None
    if kind == 15:
        ragged = np.empty(n, object)
        for i in range(n):
            ragged[i] = plain[i, : int(rng.integers(1, t + 1))]
        return ragged, None
    if kind == 16:
        return rng.choice(
            np.array(
                [None, "text", 3, {}, [], [[]], {"a": 1}, b"x", iter([1]), object(), [None], [["a"]]], object
            )
        ), None
    return np.broadcast_to(plain[:, :1], plain.shape), np.ascontiguousarray(
        np.broadcast_to(plain[:, :1], plain.shape)
    )


def run(total: int, seed: int = 0) -> list[Result]:
    """Predict with all inputs, and fit with every twentieth."""
    rng, counts = np.random.default_rng(seed), Counter[str]()
    x, y = rng.normal(size=(12, 5, 3)).astype("float32"), np.arange(12) % 3
    options = {"units": 3, "max_iter": 1, "tol": None, "random_state": 0}
    models = [RNNClassifier(cell="gru", **options).fit(x, y), RNNRegressor(**options).fit(x, y.astype(float))]
    examples: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(total):
            given, plain = drawn(rng)
            model = models[k % 2]
            score = model.predict_proba if k % 2 == 0 else model.predict
            fits = k % 20 < 2
            try:
                if fits:
                    n = len(given) if hasattr(given, "__len__") else 1
                    fresh = type(model)(**model.get_params())
                    fresh.fit(given, np.arange(n) % 2 if k % 2 == 0 else np.arange(float(n)))
                found = score(given)
            except (ValueError, TypeError) as error:
                counts["refused"] += 1
                if plain is not None and not fits:
                    counts["wrong"] += 1
                    examples[f"refused {type(given).__name__}: {str(error)[:80]}"] += 1
                continue
            except Exception as error:
                counts["other errors"] += 1
                examples[f"{type(error).__name__}: {str(error)[:80]}"] += 1
                continue
            counts["taken"] += 1
            if len(found) != len(given) or (plain is not None and not np.array_equal(found, score(plain))):
                counts["wrong"] += 1
                examples[f"wrong outputs for {type(given).__name__}"] += 1
    figures = {"inputs": total, **counts}
    if examples:
        figures["examples"] = dict(examples.most_common(5))
    holds = not counts["other errors"] and not counts["wrong"]
    return [Result("b", "random inputs: right outputs, or ValueError or TypeError", figures, holds)]
