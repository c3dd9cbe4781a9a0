"""Weights of classes: the same loss whatever the form of the targets, and for one target or one for each time step."""

import numpy as np
import pytest

from fastrnn import EncoderDecoder, RNNClassifier, Sequential, layers

WEIGHTS = {0: 1.0, 1: 100.0}


def model(n_classes, per_step, loss):
    activation = "sigmoid" if n_classes == 1 else "softmax"
    made = Sequential(
        [layers.LSTM(4, return_sequences=per_step), layers.Dense(n_classes, activation=activation)], seed=0
    )
    made.compile("sgd", loss)
    made.build((None, 3, 2))
    return made


def by_hand(outputs, labels):
    """Mean over items of weight times cross-entropy."""
    if outputs.shape[-1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=-1)
    chosen = np.take_along_axis(outputs, labels[..., None], axis=-1)[..., 0]
    weights = np.where(labels == 1, 100.0, 1.0)
    return float((weights * -np.log(chosen)).mean())


@pytest.fixture
def x(rng):
    return rng.normal(size=(4, 3, 2)).astype("float32")


LABELS = {
    False: np.array([1, 0, 0, 1]),
    True: np.array([[1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]]),
}

FORMS = {
    "integers": ("sparse_categorical_crossentropy", 2, lambda y: y),
    "integers with an axis": ("sparse_categorical_crossentropy", 2, lambda y: y[..., None]),
    "integers of three classes": ("sparse_categorical_crossentropy", 3, lambda y: y),
    "floats": ("sparse_categorical_crossentropy", 2, lambda y: y.astype(float)),
    "one-hot": ("categorical_crossentropy", 2, lambda y: np.eye(2)[y]),
    "one-hot of three classes": ("categorical_crossentropy", 3, lambda y: np.eye(3)[y]),
    "binary": ("binary_crossentropy", 1, lambda y: y),
    "binary with an axis": ("binary_crossentropy", 1, lambda y: y[..., None]),
}


@pytest.mark.parametrize("way", ["fit", "train_on_batch"])
@pytest.mark.parametrize("per_step", [False, True], ids=["sequence", "steps"])
@pytest.mark.parametrize("form", FORMS)
def test_class_weight_counts_each_item_by_its_class(form, per_step, way, x):
    loss, n_classes, shape = FORMS[form]
    made, labels = model(n_classes, per_step, loss), LABELS[per_step]
    expected = by_hand(made.predict(x, verbose=0), labels)
    start, y = made.params.copy(), shape(labels)
    if way == "fit":
        made.fit(x, y, class_weight=WEIGHTS, verbose=0, shuffle=False)
    else:
        assert made.train_on_batch(x, y, class_weight=WEIGHTS) == pytest.approx(expected, rel=1e-4)
    by_sample = model(n_classes, per_step, loss)
    np.testing.assert_array_equal(by_sample.params, start)
    weights = np.where(labels == 1, 100.0, 1.0)
    assert by_sample.train_on_batch(x, y, sample_weight=weights) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(made.params, by_sample.params, rtol=1e-6)


@pytest.mark.parametrize("form", ["integers", "integers with an axis", "one-hot"])
def test_class_weight_of_an_encoder_decoder_counts_each_step(form, rng):
    x, y = rng.integers(0, 3, (5, 4)), rng.integers(0, 3, (5, 3))
    y[0] = [1, 0, 0]

    def fresh():
        made = EncoderDecoder(
            [layers.Embedding(3, 4), layers.GRU(5)],
            [layers.Embedding(4, 4), layers.GRU(5), layers.Dense(3, activation="softmax")],
            start=3,
            seed=0,
        )
        made.compile(
            "sgd", "categorical_crossentropy" if form == "one-hot" else "sparse_categorical_crossentropy"
        )
        return made

    targets = {"integers": y, "integers with an axis": y[..., None], "one-hot": np.eye(3)[y]}[form]
    by_class, by_step = fresh(), fresh()
    found = by_class.train_on_batch(x, targets, class_weight={1: 50.0})
    expected = by_step.train_on_batch(x, targets, sample_weight=np.where(y == 1, 50.0, 1.0))
    assert found == pytest.approx(expected)
    assert found > 2 * fresh().train_on_batch(x, targets)
    np.testing.assert_array_equal(by_class.params, by_step.params)
    again = fresh()
    again.fit(x, targets, class_weight={1: 50.0}, verbose=0, shuffle=False)
    np.testing.assert_allclose(again.params, by_step.params, rtol=1e-6)


def test_class_weight_of_steps_gives_these_numbers():
    """One sequence with labels 1, 0, 0, whose loss is .7276 without weights and 22.16 with them."""
    first = (22.16 - 0.7276) * 3 / 99  # cross-entropies: 100 of the first for one
    rest = (3 * 0.7276 - first) / 2
    logits = [-np.log(np.expm1(first)), np.log(np.expm1(rest)), np.log(np.expm1(rest))]
    x, y = np.reshape(logits, (1, 3, 1)), np.array([[1, 0, 0]])

    def fresh():
        made = Sequential([layers.Dense(1, activation="sigmoid", dtype="float64")])
        made.build((None, 3, 1))
        made.set_weights([np.ones((1, 1)), np.zeros(1)])
        made.compile("sgd", "binary_crossentropy")
        return made

    assert fresh().evaluate(x, y) == pytest.approx(0.7276)
    assert by_hand(fresh().predict(x), y) == pytest.approx(22.16)
    assert fresh().train_on_batch(x, y, class_weight=WEIGHTS) == pytest.approx(22.16)
    assert fresh().fit(x, y, class_weight=WEIGHTS, verbose=0).history["loss"] == pytest.approx([22.16])


@pytest.mark.parametrize("form", ["integers", "one-hot"])
def test_class_weight_of_an_encoder_decoder_matches_its_outputs(form, rng):
    """Weight times cross-entropy of the outputs that follow the true tokens."""
    x, y = rng.integers(0, 3, (5, 4)), rng.integers(0, 3, (5, 3))
    y[0] = [1, 0, 0]
    decoder = [layers.Embedding(4, 4), layers.GRU(5), layers.Dense(3, activation="softmax")]
    made = EncoderDecoder([layers.Embedding(3, 4), layers.GRU(5)], decoder, start=3, seed=0)
    made.compile(
        "sgd", "categorical_crossentropy" if form == "one-hot" else "sparse_categorical_crossentropy"
    )
    targets = np.eye(3)[y] if form == "one-hot" else y
    outputs = made(x, targets)
    chosen = -np.log(np.take_along_axis(outputs, y[..., None], axis=-1)[..., 0])
    expected = (np.where(y == 1, 100.0, 1.0) * chosen).mean()
    assert made.train_on_batch(x, targets, class_weight=WEIGHTS) == pytest.approx(expected, rel=1e-5)


def test_classifier_with_a_label_for_each_step_weights_each_step(x):
    y, options = LABELS[True], dict(units=4, return_sequences=True, max_iter=2, tol=None, random_state=0)
    by_class = RNNClassifier(class_weight=WEIGHTS, **options).fit(x, y)
    by_step = RNNClassifier(**options).fit(x, y, np.where(y == 1, 100.0, 1.0))
    np.testing.assert_array_equal(by_class.model_.params, by_step.model_.params)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, "heavy"])
@pytest.mark.parametrize("way", ["fit", "train_on_batch", "classifier"])
def test_class_weight_that_is_no_weight_is_refused(way, weight, x):
    if way == "classifier":
        train = RNNClassifier(units=4, class_weight={0: 1.0, 1: weight}).fit
        options = {}
    else:
        train = getattr(model(2, False, "sparse_categorical_crossentropy"), way)
        options = {"class_weight": {1: weight}}
    with pytest.raises(ValueError, match=r"class_weight\[1\]=.*give a .*number"):
        train(x, LABELS[False], **options)


@pytest.mark.parametrize("label", [-1, 2, 7])
@pytest.mark.parametrize("way", ["fit", "train_on_batch"])
def test_class_weight_of_a_class_that_the_outputs_lack_is_refused(way, label, x):
    made = model(2, False, "sparse_categorical_crossentropy")
    before = made.params.copy()
    with pytest.raises(ValueError, match=rf"class_weight names the class {label}: .* 0 to 1"):
        getattr(made, way)(x, LABELS[False], class_weight={label: 2.0})
    np.testing.assert_array_equal(made.params, before)
