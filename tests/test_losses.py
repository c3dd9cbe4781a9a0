"""Losses and metrics: values by hand, gradients against finite differences, masks, weights, bad input."""

import numpy as np
import pytest

from fastrnn import Sequential, layers, losses, metrics
from fastrnn.engine import tuning
from fastrnn.engine.runtime import threads

LOSSES = {
    "mse": ("mse", {}),
    "mae": ("mae", {}),
    "huber": ("Huber", {"delta": 0.7}),
    "bce": ("BinaryCrossentropy", {}),
    "bce-smooth": ("BinaryCrossentropy", {"label_smoothing": 0.2}),
    "bce-logits": ("BinaryCrossentropy", {"from_logits": True}),
    "cce": ("CategoricalCrossentropy", {}),
    "cce-smooth": ("CategoricalCrossentropy", {"label_smoothing": 0.1}),
    "cce-logits": ("CategoricalCrossentropy", {"from_logits": True}),
    "scce": ("SparseCategoricalCrossentropy", {}),
    "scce-logits": ("SparseCategoricalCrossentropy", {"from_logits": True}),
    "scce-ignore": ("SparseCategoricalCrossentropy", {"ignore_class": -1}),
}


def make(name, reduction="sum_over_batch_size"):
    cls, kwargs = LOSSES[name]
    return (
        getattr(losses, cls)(reduction=reduction, **kwargs) if kwargs or cls[0].isupper() else losses.get(cls)
    )


def case(name, rng, shape=(4, 3, 5)):
    """Targets and predictions that suit the loss."""
    n_classes = shape[-1]
    if name.startswith("scce"):
        y = rng.integers(-1 if name == "scce-ignore" else 0, n_classes, shape[:-1])
    elif name.startswith("cce"):
        y = np.eye(n_classes)[rng.integers(0, n_classes, shape[:-1])]
    elif name.startswith("bce"):
        y = rng.integers(0, 2, shape).astype(float)
    else:
        y = rng.normal(size=shape)
    p = rng.uniform(0.1, 0.9, shape) if "logits" not in name and "c" in name else rng.normal(size=shape)
    return y, p


def numeric_gradient(f, p, step=1e-6):
    grad = np.empty_like(p)
    for i in np.ndindex(*p.shape):
        value = p[i]
        p[i] = value + step
        high = f()
        p[i] = value - step
        low = f()
        p[i] = value
        grad[i] = (high - low) / (2 * step)
    return grad


@pytest.mark.parametrize("weights", ["plain", "sample", "step", "mask", "both"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_matches_finite_difference(name, weights, rng):
    loss = make(name)
    y, p = case(name, rng)
    given = {
        "plain": {},
        "sample": {"sample_weight": rng.uniform(0.2, 2, 4)},
        "step": {"sample_weight": rng.uniform(0.2, 2, (4, 3))},
        "mask": {"mask": rng.random((4, 3)) < 0.6},
        "both": {"sample_weight": rng.uniform(0.2, 2, 4), "mask": rng.random((4, 3)) < 0.6},
    }[weights]
    value, grad = loss.value_and_grad(y, p, **given)
    assert value == pytest.approx(loss(y, p, **given), rel=1e-12)
    np.testing.assert_allclose(grad, numeric_gradient(lambda: loss(y, p, **given), p), atol=1e-8)


@pytest.mark.parametrize("name", ["bce", "bce-smooth", "cce", "cce-smooth", "scce", "scce-ignore"])
def test_loss_gradient_from_logits_matches_finite_difference(name, rng):
    loss = make(name)
    y, _ = case(name, rng)
    z = rng.normal(size=(4, 3, 5))

    def activated():
        return loss.probabilities(z)

    value, grad = loss.value_and_grad(y, activated(), logits=z)
    assert value == pytest.approx(loss(y, activated()), rel=1e-6)
    numeric = numeric_gradient(lambda: loss.value(y, activated(), logits=z), z)
    np.testing.assert_allclose(grad, numeric, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["bce", "cce", "scce"])
def test_loss_from_logits_is_stable(name, dtype):
    """Where the probability is 0 or 1 to the last digit, loss and gradient are still right."""
    z = np.array([[200.0, -200.0], [-200.0, 200.0]], dtype)
    y = {"bce": np.eye(2)[::-1], "cce": np.eye(2)[::-1], "scce": np.array([1, 0])}[name]
    loss = make(name)
    value, grad = loss.value_and_grad(y, loss.probabilities(z), logits=z)
    assert value == pytest.approx(200 if name == "bce" else 400)
    assert grad.dtype == dtype
    assert np.abs(grad).max() == pytest.approx(0.5 if name != "bce" else 0.25)


def test_loss_mask_averages_over_valid_steps(rng):
    y, p = rng.normal(size=(2, 4, 1)), rng.normal(size=(2, 4, 1))
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    assert losses.get("mse")(y, p, mask=mask) == pytest.approx(np.mean((y - p)[mask] ** 2))
    assert losses.get("mse")(y, p, mask=np.zeros((2, 4), bool)) == 0


def test_loss_sample_weights_divide_by_number_of_items(rng):
    y, p, w = rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), rng.uniform(size=5)
    each = np.mean((y - p) ** 2, 1)
    assert losses.get("mse")(y, p, w) == pytest.approx((each * w).sum() / 5)
    assert losses.MeanSquaredError(reduction="sum")(y, p, w) == pytest.approx((each * w).sum())
    weighted = losses.MeanSquaredError(reduction="mean_with_sample_weight")
    assert weighted(y, p, w) == pytest.approx((each * w).sum() / w.sum())


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_targets_need_no_last_axis(shape, rng):
    p, y = rng.normal(size=(6, 1)), rng.normal(size=6)
    assert losses.get("mse")(y.reshape(shape), p) == pytest.approx(np.mean((y - p[:, 0]) ** 2))


@pytest.mark.parametrize(
    ("name", "y", "p", "message"),
    [
        ("mse", np.zeros(3), np.zeros((4, 2)), r"y has shape \(3,\), the predictions have \(4, 2\)"),
        ("mse", np.array(["a"]), np.zeros((1, 1)), "give numbers"),
        ("cce", np.zeros(4, int), np.ones((4, 3)), "use sparse_categorical_crossentropy"),
        ("scce", np.eye(3), np.ones((3, 3)), "use categorical_crossentropy"),
        ("scce", np.array([0, 3]), np.ones((2, 3)), "y holds class 3: with 3 outputs"),
        ("scce", np.array([0, -1]), np.ones((2, 3)), "y holds class -1"),
    ],
)
def test_loss_bad_targets(name, y, p, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(name)(y, p)


def test_loss_bad_arguments():
    with pytest.raises(ValueError, match=r"loss='msee' is not a loss: did you mean 'mse'\?"):
        losses.get("msee")
    with pytest.raises(TypeError, match="has no gradient"):
        losses.get(lambda y, p: 0)
    with pytest.raises(ValueError, match="reduction='avg'"):
        losses.MeanSquaredError(reduction="avg")
    with pytest.raises(ValueError, match="sample_weight has shape"):
        losses.get("mse")(np.zeros((3, 1)), np.zeros((3, 1)), np.ones(2))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_config_round_trip(name, rng):
    loss = make(name)
    again = losses.get({"class_name": type(loss).__name__, "config": loss.get_config()})
    y, p = case(name, rng)
    assert again(y, p) == loss(y, p)


# -- metrics


def test_accuracy_kind_follows_shapes(rng):
    p = rng.random((6, 3))
    one = metrics.resolve("acc", np.eye(3)[[0, 1, 2, 0, 1, 2]], p)
    assert isinstance(one, metrics.CategoricalAccuracy)
    assert one.name == "acc"
    assert isinstance(metrics.resolve("accuracy", np.zeros(6), p), metrics.SparseCategoricalAccuracy)
    assert isinstance(metrics.resolve("accuracy", np.zeros((6, 1)), p), metrics.SparseCategoricalAccuracy)
    assert isinstance(metrics.resolve("accuracy", np.zeros(6), p[:, :1]), metrics.BinaryAccuracy)


def test_metric_accumulates_over_batches_and_resets(rng):
    y, p = rng.integers(0, 3, 50), rng.random((50, 3))
    metric = metrics.SparseCategoricalAccuracy()
    for part in np.split(np.arange(50), [7, 20, 49]):
        metric.update_state(y[part], p[part])
    assert metric.result() == pytest.approx(np.mean(p.argmax(1) == y))
    metric.reset_state()
    assert metric.result() == 0


def test_metric_mask_and_weights(rng):
    y, p = rng.integers(0, 2, (4, 5, 1)), rng.random((4, 5, 1))
    mask, weight = rng.random((4, 5)) < 0.5, rng.uniform(size=4)
    right = (p > 0.5)[..., 0] == y[..., 0]
    metric = metrics.BinaryAccuracy()
    metric.update_state(y, p, mask=mask)
    assert metric.result() == pytest.approx(right[mask].mean())
    metric.reset_state()
    metric.update_state(y, p, weight, mask)
    both = mask * weight[:, None]
    assert metric.result() == pytest.approx((right * both).sum() / both.sum())


def test_auc_matches_ranks(rng):
    """With many thresholds the area is the share of pairs in the right order."""
    y, p = rng.integers(0, 2, 300), rng.random(300)
    auc = metrics.AUC(num_thresholds=20001)
    auc.update_state(y[:100], p[:100, None])
    auc.update_state(y[100:], p[100:, None])
    pairs = p[y == 1][:, None] > p[y == 0]
    assert auc.result() == pytest.approx(pairs.mean(), abs=1e-3)


def test_metric_bad_arguments():
    with pytest.raises(ValueError, match="metric='f1' is not a metric"):
        metrics.get("f1")
    with pytest.raises(ValueError, match="curve='roc'"):
        metrics.AUC(curve="roc")


def test_function_as_metric():
    metric = metrics.get(lambda y, p: np.abs(y - p).max(axis=-1))
    metric.update_state(np.zeros((2, 2)), np.array([[1.0, 2], [3, 4]]))
    assert metric.result() == 3


# -- Keras


@pytest.fixture(scope="module")
def keras():
    from tests import keras_oracle

    try:
        return keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.peers
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("name", list(LOSSES))
def test_loss_matches_keras(keras, name, masked, rng):
    cls, kwargs = LOSSES[name]
    cls = {"mse": "MeanSquaredError", "mae": "MeanAbsoluteError"}.get(cls, cls)
    theirs = getattr(keras.losses, cls)(dtype="float64", **kwargs)
    y, p = case(name, rng)
    weight = rng.uniform(0.1, 2, (4, 3))
    tensor = keras.ops.convert_to_tensor(p)
    mask = rng.random((4, 3)) < 0.6 if masked else None
    if masked:
        keras.src.backend.set_keras_mask(tensor, keras.ops.convert_to_tensor(mask))
    expected = float(keras.ops.convert_to_numpy(theirs(y, tensor, weight)))
    assert make(name)(y, p, weight, mask) == pytest.approx(expected, rel=1e-9)


@pytest.mark.peers
@pytest.mark.parametrize("thresholds", [None, [0.1, 0.3, 0.35, 0.9]], ids=["even", "given"])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("method", ["interpolation", "minoring", "majoring"])
@pytest.mark.parametrize("curve", ["ROC", "PR"])
def test_auc_matches_keras(keras, curve, method, multi_label, thresholds, rng):
    options = {
        "curve": curve,
        "summation_method": method,
        "multi_label": multi_label,
        "thresholds": thresholds,
    }
    mine, theirs = metrics.AUC(**options), keras.metrics.AUC(**options)
    for _ in range(2):
        y, p = rng.integers(0, 2, (40, 3)), rng.random((40, 3)).astype("float32")
        weight = None if multi_label else rng.uniform(size=40)
        mine.update_state(y, p, weight)
        theirs.update_state(
            y.astype("float32"),
            p,
            None if weight is None else np.repeat(weight[:, None], 3, 1).astype("float32"),
        )
    assert mine.result() == pytest.approx(float(keras.ops.convert_to_numpy(theirs.result())), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["batch first", "time first"])
@pytest.mark.parametrize("weighted", ["", "sample_weight", "mask", "both"])
@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 1), (7, 3)])
def test_squared_error_kernel_matches_numpy(shape, weighted, layout, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    y, pred = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    if layout == "time first" and len(shape) == 3:
        pred = np.ascontiguousarray(pred.swapaxes(0, 1)).swapaxes(0, 1)
    kwargs = {}
    if weighted in ("sample_weight", "both"):
        kwargs["sample_weight"] = rng.uniform(0, 2, shape[0])
    if weighted in ("mask", "both"):
        kwargs["mask"] = rng.random(shape[:-1]) < 0.6
    loss = losses.MeanSquaredError()
    monkeypatch.setattr(tuning, "MIN_LOSS_KERNEL", 10**9)
    expected = loss.value_and_grad(y, pred, **kwargs)
    monkeypatch.setattr(tuning, "MIN_LOSS_KERNEL", 0)
    value, grad = loss.value_and_grad(y, pred, **kwargs)
    assert value == pytest.approx(expected[0], rel=1e-5 if dtype is np.float32 else 1e-12)
    assert value == pytest.approx(loss.value(y, pred, **kwargs), rel=1e-5 if dtype is np.float32 else 1e-12)
    assert grad.shape == pred.shape
    assert grad.dtype == dtype
    np.testing.assert_allclose(grad, expected[1], rtol=1e-5 if dtype is np.float32 else 1e-12, atol=1e-8)


@pytest.mark.parametrize("size", [2, 400], ids=["small", "large"])
def test_methods_of_a_subclass_of_the_squared_error_are_called(size):
    class Cubed(losses.MeanSquaredError):
        def values(self, y_true, y_pred):
            return (np.abs(y_pred - y_true) ** 3).mean(-1)

        def gradient(self, y_true, y_pred):
            return 3 * (y_pred - y_true) ** 2 * np.sign(y_pred - y_true) / y_pred.shape[-1]

    y, pred = np.zeros((size, 3)), np.full((size, 3), 2.0)
    value, grad = Cubed().value_and_grad(y, pred)
    assert value == pytest.approx(8)
    np.testing.assert_allclose(grad, 12 / 3 / size)


@pytest.mark.parametrize("layout", ["batch first", "time first"])
def test_squared_error_does_not_depend_on_the_number_of_threads(layout, monkeypatch):
    monkeypatch.setattr(tuning, "LOSS_PIECE", 300)  # 9 pieces of 11 rows: not all of a size
    regions = []
    region = threads.parallel_region
    monkeypatch.setattr(
        threads, "parallel_region", lambda n, light=False: regions.append(n) or region(n, light)
    )
    rng = np.random.default_rng(0)
    y, pred = rng.normal(size=(2, 11, 25, 10)).astype(np.float32)
    if layout == "time first":
        pred = np.ascontiguousarray(pred.swapaxes(0, 1)).swapaxes(0, 1)
    mask = rng.random((11, 25)) < 0.6
    loss, found = losses.MeanSquaredError(), []
    for loss.n_threads in (1, 2, 3):
        found.append(loss.value_and_grad(y, pred, mask=mask))
        assert regions.pop() == min(loss.n_threads, threads.resolve(loss.n_threads))
    for value, grad in found:
        assert value == found[0][0]
        np.testing.assert_array_equal(grad, found[0][1])
    factor = mask / (10 * mask.sum())
    np.testing.assert_allclose(found[0][0], ((pred - y) ** 2 * factor[..., None]).sum(), rtol=1e-6)
    np.testing.assert_allclose(found[0][1], 2 * (pred - y) * factor[..., None], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("large", [0, 10**9], ids=["kernel", "numpy"])
def test_masked_steps_may_be_anything(large, monkeypatch):
    monkeypatch.setattr(tuning, "MIN_LOSS_KERNEL", large)
    y, pred = np.zeros((2, 3, 2)), np.ones((2, 3, 2))
    y[0, 1] = np.nan
    mask = np.ones((2, 3), bool)
    mask[0, 1] = False
    loss = losses.MeanSquaredError()
    value, grad = loss.value_and_grad(y, pred, mask=mask)
    assert value == loss.value(y, pred, mask=mask) == pytest.approx(1)
    np.testing.assert_array_equal(grad[0, 1], 0)
    np.testing.assert_allclose(grad[1], 1 / 5)
    y[1, 1] = np.nan  # a step that counts
    value, grad = loss.value_and_grad(y, pred, mask=mask)
    assert np.isnan([value, loss.value(y, pred, mask=mask), *grad[1, 1]]).all()
    np.testing.assert_array_equal(grad[0, 1], 0)


RANGE_CASES = {
    "binary-minus-one": ("binary_crossentropy", 1, "sigmoid", lambda y: 2.0 * y - 1, "-1.0"),
    "binary-two": ("binary_crossentropy", 1, "sigmoid", lambda y: y + 1, "2"),
    "categorical": ("categorical_crossentropy", 2, "softmax", lambda y: 5 * np.eye(2)[y], "5.0"),
}


@pytest.mark.parametrize(
    ("loss", "n", "activation", "encode", "value"), RANGE_CASES.values(), ids=RANGE_CASES
)
def test_crossentropy_refuses_targets_that_are_no_probabilities(loss, n, activation, encode, value, rng):
    """Labels of -1 and 1, or 1 and 2, gave a number that looked like a loss."""
    x, labels = rng.normal(size=(6, 4, 2)), np.array([0, 1, 1, 0, 1, 0])
    model = Sequential([layers.GRU(3), layers.Dense(n, activation=activation)], seed=0)
    model.compile("sgd", loss)
    y = encode(labels)
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=rf"y holds {value}, but {loss} takes targets from 0 to 1"):
            call(x, y, verbose=0)
    with pytest.raises(ValueError, match="takes targets from 0 to 1"):
        model.fit(x, np.eye(2)[labels][:, :n], validation_data=(x, y), verbose=0)
    # What has no weight may be anything, as padding often is.
    wrong = ((y < 0) | (y > 1)).reshape(6, -1).any(axis=1)
    model.evaluate(x, y, sample_weight=~wrong, verbose=0)
