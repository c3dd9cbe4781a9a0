"""Steps whose passes are prepared: their weights are bitwise those of steps that are computed layer by layer."""

import pickle

import numpy as np
import pytest

from fastrnn import NonFiniteLossError, Sequential, layers, losses
from fastrnn.engine import tuning
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.jit import PLAIN
from fastrnn.engine.runtime.threads import resolve
from fastrnn.optimizers import SGD, Adam
from fastrnn.training.data import Batch
from fastrnn.training.prepared_pass import PreparedPass
from fastrnn.training.step import Trainer

pytestmark = pytest.mark.skipif(PLAIN, reason="passes are prepared on the private path only")

USUAL = 10**9
SPARSE = "sparse_categorical_crossentropy"


@pytest.fixture
def prepared(monkeypatch):
    """A list with an entry for each step of a prepared pass, which is made at the second batch of a shape."""
    monkeypatch.setattr(tuning, "MIN_PASSES", 1)
    steps = []
    step = Trainer._pass_update
    monkeypatch.setattr(Trainer, "_pass_update", lambda *a: (steps.append(1), step(*a))[1])
    return steps


def network(*made, loss="mse", optimizer="sgd", n_inputs=3, **options):
    model = Sequential(list(made), seed=5)
    model.build((None, None, n_inputs))
    model.compile(optimizer, loss, **options)
    return model


def recurrent(*, loss="mse", optimizer="sgd", sequences=True, **options):
    return network(layers.LSTM(5, return_sequences=sequences, **options), loss=loss, optimizer=optimizer)


def with_dense(units=1, activation=None, *, loss="mse", optimizer="adam", sequences=False, **options):
    return network(
        layers.GRU(6, return_sequences=sequences, **options),
        layers.Dense(units, activation=activation, **options),
        loss=loss,
        optimizer=optimizer,
    )


CASES = {
    "lstm": recurrent,
    "last-output": lambda: recurrent(sequences=False),
    "float64": lambda: recurrent(dtype="float64"),
    "momentum": lambda: recurrent(optimizer=SGD(0.1, momentum=0.9, clipnorm=0.01)),
    "rmsprop": lambda: recurrent(optimizer="rmsprop"),
    "no-bias": lambda: network(layers.SimpleRNN(4, use_bias=False, return_sequences=True)),
    "sum": lambda: recurrent(loss=losses.MeanSquaredError(reduction="sum")),
    "absolute-error": lambda: recurrent(loss="mae"),
    "unrolled": lambda: recurrent(unroll=True),
    "backwards": lambda: recurrent(go_backwards=True),
    "dense": with_dense,
    "dense-sequences": lambda: with_dense(3, sequences=True),
    "dense-no-bias": lambda: network(layers.IndRNN(4), layers.Dense(2, use_bias=False)),
    "two-dense": lambda: network(layers.PeepholeLSTM(4), layers.Dense(5), layers.Dense(2), optimizer="adam"),
    "two-recurrent": lambda: network(
        layers.JANET(4, return_sequences=True), layers.SimpleRNN(5, return_sequences=True), layers.Dense(1)
    ),
    "labels-of-two": lambda: with_dense(1, "sigmoid", loss="binary_crossentropy"),
    "labels-of-sequences": lambda: with_dense(2, "sigmoid", loss="binary_crossentropy", sequences=True),
    "classes": lambda: with_dense(3, "softmax", loss=SPARSE),
    "classes-of-sequences": lambda: with_dense(3, "softmax", loss=SPARSE, sequences=True),
    "logits": lambda: with_dense(3, loss=losses.SparseCategoricalCrossentropy(from_logits=True)),
    "metrics": lambda: network(layers.GRU(4), layers.Dense(1), metrics=["mae"], weighted_metrics=["mse"]),
    "weighted-loss": lambda: network(layers.GRU(4), layers.Dense(1), loss_weights=0.5),
}


def batch(model, rng, n=6, n_steps=4):
    x = rng.normal(size=(n, n_steps, 3)).astype(model.layers[0].dtype)
    shape = model.predict_on_batch(x).shape
    if isinstance(model.loss, losses.SparseCategoricalCrossentropy):
        return x, rng.integers(0, shape[-1], shape[:-1])
    y = rng.normal(size=shape).astype(x.dtype)
    return x, y > 0 if isinstance(model.loss, losses.BinaryCrossentropy) else y


def both(monkeypatch, make, train):
    """The models and results of ``train(model)`` with prepared passes and with usual ones."""
    found = []
    for least in (1, USUAL):
        monkeypatch.setattr(tuning, "MIN_PASSES", least)
        model = make()
        found.append((model, train(model)))
    return found


def assert_same(found):
    (model, results), (usual, expected) = found
    np.testing.assert_array_equal(model.params, usual.params)
    np.testing.assert_array_equal(results, expected)
    assert model.optimizer.iterations == usual.optimizer.iterations


@pytest.mark.parametrize("size", [(1, 1), (6, 4), (70, 3)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_prepared_steps_have_the_weights_of_usual_ones(name, size, prepared, monkeypatch):
    def train(model):
        rng = np.random.default_rng(0)
        return [model.train_on_batch(*batch(model, rng, *size)) for _ in range(5)]

    assert_same(both(monkeypatch, CASES[name], train))
    assert len(prepared) == 4


@pytest.mark.parametrize("name", ["dense", "classes", "lstm"])
@pytest.mark.parametrize("zeros", [False, True])
def test_prepared_steps_with_weights_equal_usual_ones(name, zeros, prepared, monkeypatch):
    def train(model):
        rng = np.random.default_rng(0)
        found = []
        for _ in range(5):
            x, y = batch(model, rng)
            weight = np.zeros(6) if zeros else np.linspace(0, 1, 6)
            found.append(model.train_on_batch(x, y, weight))
        return found

    assert_same(both(monkeypatch, CASES[name], train))
    assert len(prepared) == 4


def test_class_weights_are_followed(prepared, monkeypatch):
    def train(model):
        rng = np.random.default_rng(0)
        return [
            model.train_on_batch(*batch(model, rng), class_weight={0: 1.0, 1: 0.5 + k, 2: 2.0})
            for k in range(4)
        ]

    assert_same(both(monkeypatch, CASES["classes"], train))
    assert len(prepared) == 3


def _freeze(model):
    model.layers[0].trainable = False


def _freeze_all(model):
    model.trainable = False


def _set_weights(model):
    model.set_weights([0.5 * w for w in model.get_weights()])


def _set_layer_weights(model):
    model.layers[0].set_weights([0.5 * w for w in model.layers[0].get_weights()])


def _set_params(model):
    model.params = 0.5 * model.params


def _compile(model):
    model.compile(Adam(0.01), "mae")


def _set_loss(model):
    model.loss = losses.Huber()


def _set_reduction(model):
    model.loss.reduction = "sum"


def _set_optimizer(model):
    model.optimizer = Adam(0.3)


def _set_rate(model):
    model.optimizer.learning_rate = 0.5


def _set_clipping(model):
    model.optimizer.clipvalue = 1e-3


def _set_decay(model):
    model.optimizer.weight_decay = 0.1


def _drop_out(model):
    model.layers[0].dropout = 0.5


def _reverse(model):
    model.layers[0].go_backwards = True


def _keep_states(model):
    model.layers[0].stateful = True


def _unroll(model):
    model.layers[0].unroll = True


def _penalize(model):
    model.layers[0].activity_regularizer = lambda y: float((y**2).sum())
    model.layers[0].activity_regularizer.gradient = lambda y: 2 * y


def _activate(model):
    model.layers[1].activation = model.layers[1].output_activation = "tanh"


def _share(model):
    """Another model takes the weights of a layer into its vector, and trains them."""
    other = Sequential([model.layers[0], layers.Dense(1)], seed=3)
    other.compile("sgd", "mse")
    x = np.ones((2, 3, 3), np.float32)
    other.train_on_batch(x, np.ones((2, 1), np.float32))


def _replace(model):
    model.pop()
    model.add(layers.Dense(1, use_bias=False))


@pytest.mark.parametrize(
    ("change", "n_prepared"),
    [
        # Prepared: 3 steps before the change, and 4 after it, 2 if the passes are prepared again, 0 if they can't be.
        (_set_weights, 7),
        (_set_layer_weights, 7),
        (_set_params, 7),
        (_set_reduction, 7),
        (_set_optimizer, 7),
        (_set_rate, 7),
        (_set_clipping, 7),
        (_set_decay, 7),
        (_compile, 6),
        (_set_loss, 6),
        (_reverse, 6),
        (_unroll, 6),
        (_share, 6),
        (_replace, 6),
        (_freeze, 3),
        (_freeze_all, 3),
        (_drop_out, 3),
        (_keep_states, 3),
        (_penalize, 3),
        (_activate, 3),
    ],
)
def test_change_between_steps_is_followed(change, n_prepared, prepared, monkeypatch):
    def train(model):
        rng = np.random.default_rng(0)
        found = [model.train_on_batch(*batch(model, rng)) for _ in range(4)]
        change(model)
        return found + [model.train_on_batch(*batch(model, rng)) for _ in range(4)]

    assert_same(both(monkeypatch, with_dense, train))
    assert len(prepared) == n_prepared


def test_pass_that_could_not_be_prepared_is_tried_again(prepared):
    model, rng = with_dense(), np.random.default_rng(0)
    model.layers[0].dropout = 0.5
    for _ in range(3):
        model.train_on_batch(*batch(model, rng))
    assert not prepared
    model.layers[0].dropout = 0.0
    for _ in range(1010):
        model.train_on_batch(*batch(model, rng, 1, 1))
    assert len(prepared) == 1009
    for _ in range(1002):
        model.train_on_batch(*batch(model, rng))
    assert len(prepared) > 1009


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.parametrize("name", ["dense", "lstm", "absolute-error"])
def test_failed_step_leaves_weights_and_optimizer(name, where, bad, prepared, monkeypatch):
    def train(model):
        rng = np.random.default_rng(0)
        found = [model.train_on_batch(*batch(model, rng)) for _ in range(3)]
        x, y = batch(model, rng)
        (x if where == "x" else y)[1, 0] = bad
        before = model.params.copy()
        with pytest.raises(NonFiniteLossError) as error:
            model.train_on_batch(x, y)
        np.testing.assert_array_equal(model.params, before)
        texts.append(str(error.value))
        return [*found, model.train_on_batch(*batch(model, rng))]

    texts = []
    assert_same(both(monkeypatch, CASES[name], train))
    assert texts[0] == texts[1]
    assert len(prepared) == 4


def test_large_targets_of_another_dtype_fail_without_warning(prepared, monkeypatch):
    def train(model):
        rng = np.random.default_rng(0)
        found = [model.train_on_batch(*batch(model, rng)) for _ in range(3)]
        x, y = batch(model, rng)
        with pytest.raises(NonFiniteLossError):
            model.train_on_batch(x, y.astype(float) + 1e300)
        return [*found, model.train_on_batch(x, y.astype(float)), model.train_on_batch(x, y[:, 0])]

    assert_same(both(monkeypatch, with_dense, train))
    assert len(prepared) == 5


@pytest.mark.parametrize("name", ["dense", "classes", "lstm"])
def test_wrong_targets_raise_as_usual(name, prepared, monkeypatch):
    texts = []

    def train(model):
        rng = np.random.default_rng(0)
        found = [model.train_on_batch(*batch(model, rng)) for _ in range(3)]
        x, y = batch(model, rng)
        for wrong in (y[:-1], y.astype(str), np.zeros((6, 9, 9)), None):
            with pytest.raises((TypeError, ValueError)) as error:
                model.train_on_batch(x, wrong)
            texts.append(str(error.value))
        return [*found, model.train_on_batch(x, y)]

    assert_same(both(monkeypatch, CASES[name], train))
    assert texts[:4] == texts[4:]


def test_interrupted_step_leaves_weights(prepared, monkeypatch):
    model, rng = with_dense(), np.random.default_rng(0)
    for _ in range(3):
        model.train_on_batch(*batch(model, rng))
    before = model.params.copy()

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Adam, "apply", stop)
        with pytest.raises(KeyboardInterrupt):
            model.train_on_batch(*batch(model, rng))
    np.testing.assert_array_equal(model.params, before)


def test_gradients_of_initial_states_are_those_of_the_last_step(prepared, monkeypatch):
    def train(model):
        rng = np.random.default_rng(0)
        for _ in range(3):
            model.train_on_batch(*batch(model, rng))
        return np.array(model.layers[0].d_initial_state)

    assert_same(both(monkeypatch, recurrent, train))


def test_fit_with_prepared_passes_equals_usual_fit(prepared, monkeypatch):
    def train(model):
        x, y = batch(model, np.random.default_rng(0), 20)
        history = model.fit(x, y, batch_size=8, epochs=4, verbose=0, validation_split=0.1)
        return [*history.history["loss"], *history.history["val_loss"]]

    assert_same(both(monkeypatch, recurrent, train))
    assert len(prepared) == 4 * 3 - 2  # all but the first batch of 8 samples and the first of 2


def test_copies_and_pickles_prepare_their_own(prepared, monkeypatch):
    model, rng = with_dense(), np.random.default_rng(0)
    for _ in range(3):
        model.train_on_batch(*batch(model, rng))
    x, y = batch(model, rng)
    copies = [model.copy(), pickle.loads(pickle.dumps(model))]
    for other in (model, *copies):
        for _ in range(3):
            other.train_on_batch(x, y)
    for other in copies:
        np.testing.assert_array_equal(other.params, model.params)
    assert len(prepared) == 2 + 3 + 2 * 2


def test_subclass_with_a_pass_of_its_own_is_not_prepared(prepared):
    class Doubled(Sequential):
        def run(self, *args):
            found = super().run(*args)
            return found._replace(y=2 * found.y)

    model = Doubled([layers.LSTM(4)], seed=0)
    model.compile("sgd", "mse")
    x, y = np.ones((3, 4, 2), np.float32), np.zeros((3, 4), np.float32)
    for _ in range(4):
        model.train_on_batch(x, y)
    assert not prepared


def test_trainer_with_an_update_of_its_own_makes_all_updates(prepared):
    class Own(Trainer):
        def _update(self, model, batch):
            made.append(len(batch.x))
            return 0.0

    made = []
    model, rng = with_dense(), np.random.default_rng(0)
    for _ in range(3):
        model.train_on_batch(*batch(model, rng))
    own = Own()
    own.__dict__.update(model.trainer.__dict__)
    model.trainer = own
    before = model.params.copy()
    for _ in range(3):
        model.trainer.train(model, Batch(*batch(model, rng)))
    assert made == [6] * 3
    np.testing.assert_array_equal(model.params, before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(layers.Bidirectional(layers.GRU(4))),
        lambda: network(layers.GRU(4, stateful=True)),
        lambda: network(layers.GRU(4, dropout=0.2)),
        lambda: network(layers.GRU(4, kernel_regularizer="l2")),
        lambda: network(layers.GRU(4, kernel_constraint="non_neg")),
        lambda: network(layers.GRU(4), layers.Dense(2, activation="relu"), layers.Dense(1)),
        lambda: network(layers.GRU(4), layers.Dense(1, activation="sigmoid")),
    ],
)
def test_other_networks_are_not_prepared(make, prepared):
    model, rng = make(), np.random.default_rng(0)
    for _ in range(4):
        model.train_on_batch(*batch(model, rng))
    assert not prepared


def test_masked_and_large_batches_are_not_prepared(prepared, monkeypatch):
    model, rng = with_dense(), np.random.default_rng(0)
    mask = np.arange(4) < np.arange(1, 7)[:, None]
    for _ in range(4):
        model.train_on_batch(*batch(model, rng), mask=mask)
    assert not prepared
    monkeypatch.setattr(tuning, "MAX_PASS_BYTES", 10)
    for _ in range(4):
        model.train_on_batch(*batch(model, rng))
    assert not prepared


@pytest.mark.parametrize("cell", [layers.SimpleRNN, layers.LSTM])
@pytest.mark.parametrize("sequences", [False, True])
def test_passes_of_several_threads_have_the_weights_of_usual_ones(cell, sequences, prepared, monkeypatch):
    monkeypatch.setattr(tuning, "MIN_THREAD_WORK", 0)
    counts = []

    def make():
        made = [cell(5, return_sequences=True), cell(6, return_sequences=sequences), layers.Dense(2)]
        for layer in made[:2]:
            layer.n_threads = 2
        return network(*made, optimizer="adam")

    def train(model):
        rng = np.random.default_rng(0)
        found = [model.train_on_batch(*batch(model, rng, 9)) for _ in range(4)]
        counts.extend(
            p.network._threads for p in model.trainer._passes._known.values() if isinstance(p, PreparedPass)
        )
        model.layers[1].n_threads = 1
        return found + [model.train_on_batch(*batch(model, rng, 9)) for _ in range(4)]

    assert_same(both(monkeypatch, make, train))
    assert len(prepared) == 6
    assert counts == [min(2, resolve(2))]


def test_free_cores_are_followed(prepared, monkeypatch):
    monkeypatch.setattr(tuning, "MIN_THREAD_WORK", 0)
    free = [2]
    monkeypatch.setattr(threads, "resolve", lambda n=None: free[0])

    def train(model):
        rng = np.random.default_rng(0)
        free[0] = 2
        found = [model.train_on_batch(*batch(model, rng, 9)) for _ in range(4)]
        free[0] = 1
        return found + [model.train_on_batch(*batch(model, rng, 9)) for _ in range(4)]

    assert_same(both(monkeypatch, with_dense, train))
    assert len(prepared) == 6


def test_few_shapes_are_kept(prepared):
    model, rng = with_dense(), np.random.default_rng(0)
    for n in range(1, 9):
        for _ in range(3):
            model.train_on_batch(*batch(model, rng, n))
    assert len(prepared) == 8 * 2
    assert len(model.trainer._passes._known) <= 4
