"""Batches in which row i continues row i of the previous batch, and stateful training on them."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Ragged, Sequential, layers
from fastrnn.sequences import as_object_array, stateful_batches

LIST = [np.zeros((4, 2)), np.zeros((7, 2)), np.zeros((3, 2))]


@pytest.mark.parametrize("keep_rest", [False, True])
@pytest.mark.parametrize(
    ("shape", "batch_size"), [((23,), 3), ((23, 2), None), ((4, 11, 2), None), ((6, 11, 2), 2)], ids=str
)
def test_rows_continue_rows(shape, batch_size, keep_rest, rng):
    x = rng.normal(size=shape)
    y = rng.normal(size=(*shape[: max(1, len(shape) - 1)], 3))
    batches = stateful_batches(x, y, n_steps=4, batch_size=batch_size, keep_rest=keep_rest)
    found = list(batches)
    assert len(found) == len(batches)
    n_series = shape[0] if len(shape) == 3 else 1
    rows = batch_size or n_series
    length = shape[1] if len(shape) == 3 else shape[0] // rows
    used = length if keep_rest else length // 4 * 4
    n_groups = batches.starts.all(axis=1).sum()
    assert n_groups == batches.starts.any(axis=1).sum() == max(n_series // rows, 1)
    per_group = len(found) // n_groups
    for k, whole in enumerate((x, y)):
        pieces = []
        for g in range(n_groups):
            group = found[g * per_group : (g + 1) * per_group]
            assert all(len(b[k]) == rows for b in group)
            pieces.append(np.concatenate([b[k] for b in group], axis=1))
        joined = np.concatenate(pieces)
        expected = (
            whole if len(shape) == 3 else whole[: rows * length].reshape(rows, length, *whole.shape[1:])
        )
        expected = expected[:, :used]
        np.testing.assert_array_equal(joined, expected.reshape(joined.shape))


def test_last_targets_and_weights(rng):
    x, y, w = rng.normal(size=(12, 2)), rng.normal(size=12), rng.random(12)
    batches = stateful_batches(x, y, n_steps=3, batch_size=2, sample_weight=w, return_sequences=False)
    (_, y0, w0), (_, y1, _) = batches
    np.testing.assert_array_equal([y0, y1], [y[[2, 8]], y[[5, 11]]])
    np.testing.assert_array_equal(w0, w[[2, 8]])
    assert [len(b) for b in stateful_batches(x, n_steps=3)] == [1, 1, 1, 1]


def stateful_model(return_sequences=True):
    model = Sequential(
        [
            layers.GRU(4, stateful=True, return_sequences=return_sequences, dtype="float64"),
            layers.Dense(1, dtype="float64"),
        ],
        seed=0,
    )
    model.compile("sgd", "mse")
    return model


def test_fit_resets_states_where_series_start(rng):
    x, y = rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 6, 1))
    model, by_hand = stateful_model(), stateful_model()
    batches = stateful_batches(x, y, n_steps=3, batch_size=2)
    model.fit(batches, epochs=2, verbose=0)
    for _ in range(2):
        for g in (0, 2):
            by_hand.reset_states()
            for t in (0, 3):
                by_hand.train_on_batch(x[g : g + 2, t : t + 3], y[g : g + 2, t : t + 3])
    np.testing.assert_array_equal(model.params, by_hand.params)
    loss = model.evaluate(batches, verbose=0)
    by_hand.reset_states()
    whole = np.concatenate([by_hand(x[:2])])
    by_hand.reset_states()
    whole = np.concatenate([whole, by_hand(x[2:])])
    assert loss == pytest.approx(((whole - y) ** 2).mean())


# -- series of unequal length


def unequal(rng, lengths=(7, 2, 9, 4, 1), n_features=2):
    x = [rng.normal(size=(n, n_features)) for n in lengths]
    return x, [a.sum(axis=1, keepdims=True) for a in x]


def rows_of(batch):
    """Each row's steps, whether the batch is an array or ragged."""
    return [np.asarray(row) for row in batch]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("n_steps", [1, 3, 20])
def test_unequal_series_come_whole_and_in_order(n_steps, batch_size, rng):
    x, y = unequal(rng)
    batches = stateful_batches(x, y, n_steps=n_steps, batch_size=batch_size)
    found, open_rows = [], [None] * batch_size
    for starts, (xb, yb) in zip(batches.starts, batches, strict=True):
        assert len(xb) == len(yb) == batch_size
        for r, (xr, yr) in enumerate(zip(rows_of(xb), rows_of(yb), strict=True)):
            assert len(xr) <= n_steps
            if starts[r]:
                open_rows[r] = [[], []]
                found.append(open_rows[r])
            if len(xr):
                open_rows[r][0].append(xr)
                open_rows[r][1].append(yr)
    assert len(found) == len(x)
    for (xs, ys), a, b in zip(found, x, y, strict=True):
        np.testing.assert_array_equal(np.concatenate(xs), a)
        np.testing.assert_array_equal(np.concatenate(ys), b)
    # No row is empty while there are series that have not begun.
    assert len(batches) <= 1 + sum(-(-len(a) // n_steps) for a in x) / batch_size + 9 / n_steps


def test_forms_of_unequal_series_are_equal(rng):
    x, y = unequal(rng)
    forms = [(x, y), (tuple(x), tuple(y)), *[(f(x), f(y)) for f in (as_object_array, Ragged.from_list)]]
    forms.append(([a.tolist() for a in x], [b.tolist() for b in y]))
    forms.append((x, [b[:, 0] for b in y]))
    first, *others = [list(stateful_batches(*form, n_steps=3, batch_size=2)) for form in forms]
    for other in others:
        for (xa, ya), (xb, yb) in zip(first, other, strict=True):
            for a, b in zip(rows_of(xa), rows_of(xb), strict=True):
                np.testing.assert_array_equal(a, b)
            for a, b in zip(rows_of(ya), rows_of(yb), strict=True):
                np.testing.assert_array_equal(a.ravel(), b.ravel())


def test_rest_can_be_left_out(rng):
    x, _ = unequal(rng, (7, 3, 9))
    batches = stateful_batches(x, n_steps=3, batch_size=1, keep_rest=False)
    np.testing.assert_array_equal(
        np.concatenate([b[0] for (b,) in batches]), np.concatenate([x[0][:6], x[1], x[2]])
    )


def test_equal_series_that_rows_do_not_divide(rng):
    x = rng.normal(size=(3, 4, 2))
    found = [b for (b,) in stateful_batches(x, n_steps=2, batch_size=2)]
    np.testing.assert_array_equal(found[0], x[:2, :2])
    assert [[len(row) for row in rows_of(b)] for b in found] == [[2, 2], [2, 2], [2, 0], [2, 0]]


@pytest.mark.parametrize("return_sequences", [True, False], ids=["steps", "last"])
def test_fit_on_unequal_series_matches_masked_batches_by_hand(return_sequences, rng):
    """Two rows, three series: the third begins in the row that is free, whose state alone is reset."""
    x, y = unequal(rng, (5, 8, 4))
    model, by_hand = (stateful_model(return_sequences) for _ in range(2))
    batches = stateful_batches(x, y, n_steps=3, batch_size=2, return_sequences=return_sequences)
    model.fit(batches, epochs=2, verbose=0)
    plan = [((0, 0), (1, 0)), ((0, 3), (1, 3)), ((2, 0), (1, 6)), ((2, 3), None)]
    for _ in range(2):
        states = np.zeros((2, 4))
        for k, rows in enumerate(plan):
            xb, yb, mask = np.zeros((2, 3, 2)), np.zeros((2, 3, 1)), np.zeros((2, 3), bool)
            for r, row in enumerate(rows):
                if row is None:
                    continue
                i, at = row
                n = min(3, len(x[i]) - at)
                xb[r, :n], yb[r, :n], mask[r, :n] = x[i][at : at + n], y[i][at : at + n], True
                if at == 0:
                    states[r] = 0
            if k:
                by_hand.layers[0].states = [states.copy()]
            else:
                by_hand.reset_states()
            if return_sequences:
                by_hand.train_on_batch(xb, yb, mask=mask)
            else:
                # The mean is over rows that have a step: if one has none, the weight of the other is doubled.
                n_valid = mask.sum(axis=1)
                last = yb[np.arange(2), np.maximum(n_valid, 1) - 1]
                weight = (n_valid > 0) * 2 / (n_valid > 0).sum()
                full = mask | (n_valid == 0)[:, None]
                by_hand.train_on_batch(xb, last, sample_weight=weight, mask=full)
            states = by_hand.layers[0].states[0].copy()
    np.testing.assert_allclose(model.params, by_hand.params, rtol=1e-12)


def test_metrics_count_rows_that_have_a_step_only(rng):
    x, y = unequal(rng, (5, 8, 4))
    model = stateful_model(return_sequences=False)
    model.compile("sgd", "mse", metrics=["mae"])
    batches = stateful_batches(x, y, n_steps=3, batch_size=2, return_sequences=False)
    found = model.evaluate(batches, verbose=0, return_dict=True)["mae"]
    errors = []
    for a, b in zip(x, y, strict=True):
        model.reset_states()
        outputs = by_steps(model, a)
        errors += [abs(outputs[end - 1] - b[end - 1, 0]) for end in [*range(3, len(a), 3), len(a)]]
    assert len(errors) == 7
    assert found == pytest.approx(np.mean(errors), rel=1e-9)


def by_steps(model, series):
    """Output after each step of one series."""
    return [float(np.ravel(model(series[None, t : t + 1]))[0]) for t in range(len(series))]


def test_only_the_rows_that_begin_are_reset(rng):
    x, _ = unequal(rng, (2, 6, 4))
    model = stateful_model()
    batches = stateful_batches(x, n_steps=2, batch_size=2, model=model)
    outputs = [model.predict_on_batch(b) for (b,) in batches]
    assert batches.starts.tolist() == [[True, True], [True, False], [False, False]]
    model.reset_states()
    expected = [model(a[None])[0] for a in x if model.reset_states() is None]
    np.testing.assert_allclose(np.concatenate([o[1] for o in outputs]), expected[1], rtol=1e-12)
    np.testing.assert_allclose(outputs[0][0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([o[0] for o in outputs[1:]]), expected[2], rtol=1e-12)


def test_predict_resets_states_and_takes_no_weights_for_a_mask(rng):
    x, y = rng.normal(size=(3, 6, 2)), rng.normal(size=(3, 6, 1))
    model = stateful_model()
    batches = stateful_batches(x, y, sample_weight=np.zeros((3, 6)), n_steps=3)
    first = model.predict(batches)
    np.testing.assert_array_equal(model.predict(batches), first)
    model.reset_states()
    np.testing.assert_allclose(np.concatenate([first[:3], first[3:]], axis=1), model(x), rtol=1e-12)


def test_tokens_get_no_axis(rng):
    text = [rng.integers(0, 5, n) for n in (9, 4, 6)]
    batches = stateful_batches(
        [t[:-1] for t in text], [t[1:] for t in text], n_steps=3, batch_size=2, tokens=True
    )
    model = Sequential(
        [
            layers.Embedding(5, 3),
            layers.GRU(4, stateful=True, return_sequences=True),
            layers.Dense(5, activation="softmax"),
        ],
        seed=0,
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    losses = model.fit(batches, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    whole = np.arange(12)
    (first,), *_ = stateful_batches(whole, n_steps=4, batch_size=2, tokens=True)
    np.testing.assert_array_equal(first, [[0, 1, 2, 3], [6, 7, 8, 9]])


@pytest.mark.parametrize("call", ["train_on_batch", "test_on_batch"])
def test_single_batches_take_ragged(call, rng):
    x, y = unequal(rng, (5, 0, 3))
    padded, mask = Ragged.from_list(x).take(slice(None))
    targets = Ragged.from_list(y)
    found, expected = (
        getattr(stateful_model(), call)(*arguments, **more)
        for arguments, more in (
            ((Ragged.from_list(x), targets), {}),
            ((padded, targets.take(slice(None))[0]), {"mask": mask}),
        )
    )
    assert found == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 0}, "n_steps=0: give a positive integer"),
        ({"batch_size": -1}, "batch_size=-1: give a positive integer"),
        ({"n_steps": 13}, "n_steps=13 is more than the 12 steps of a row"),
        (
            {"y": np.zeros(5)},
            r"y has shape \(5,\): it needs one entry for each time step of x, which has shape \(12, 2\)",
        ),
        ({"sample_weight": np.zeros(12)}, "sample_weight is given without y"),
        ({"x": np.zeros((1, 2, 3, 4))}, "x has shape"),
        ({"x": np.float64(3)}, r"x has shape \(\): give"),
        ({"x": []}, "n_steps=3 is more than the 0 steps of a row"),
        (
            {"x": LIST, "y": LIST[:2]},
            "y holds 2 series of 4, 7 steps.*x, which holds 3 series of 4, 7, 3 steps",
        ),
        ({"x": LIST, "y": np.zeros(14)}, "y has shape"),
        ({"x": LIST, "keep_rest": False, "n_steps": 4}, "n_steps=4 is more than the 3 steps of series 2"),
        ({"x": [*LIST, np.zeros((0, 2))]}, "n_steps=3 is more than the 0 steps of series 3"),
        (
            {"x": [*LIST, np.zeros((5, 3))]},
            r"x holds series of shapes .*\(5, 3\).*: give each the same features",
        ),
        (
            {"x": LIST, "tokens": True},
            r"x holds series of shapes .*: give each the same features, \(n_time,\) tokens",
        ),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        stateful_batches(**{"x": np.zeros((12, 2)), "n_steps": 3, **arguments})
