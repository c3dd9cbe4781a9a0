"""Optimizers: the fused kernels against the equations in plain NumPy, lazy updates, clipping, schedules, Keras."""

import copy
import gc
import math
import pickle

import numpy as np
import pytest

from fastrnn import Sequential, layers, optimizers, schedules
from fastrnn.engine.kernels import update
from fastrnn.optimizers import Plan, Table

VARIANTS = {
    "sgd": ("SGD", {}),
    "sgd-momentum": ("SGD", {"momentum": 0.8}),
    "sgd-nesterov": ("SGD", {"momentum": 0.8, "nesterov": True}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop-momentum": ("RMSprop", {"momentum": 0.5}),
    "rmsprop-centered": ("RMSprop", {"centered": True}),
    "rmsprop-both": ("RMSprop", {"momentum": 0.5, "centered": True}),
    "adam": ("Adam", {}),
    "adam-amsgrad": ("Adam", {"amsgrad": True}),
    "adagrad": ("Adagrad", {}),
}


def make(name, **more):
    cls, kwargs = VARIANTS[name]
    return getattr(optimizers, cls)(**{"learning_rate": 0.05, **kwargs, **more})


def whole(*sizes):
    """A plan of dense variables of these sizes."""
    ends = np.cumsum(sizes).tolist()
    variables = list(zip([0, *ends[:-1]], ends, strict=True))
    return Plan(variables, [(0, ends[-1])], [])


def oracle(name, p, gradients, rate=0.05):
    """The published equations, one array operation at a time."""
    cls, o = VARIANTS[name]
    p = p.copy()
    m, v, top, mean = (np.zeros_like(p) for _ in range(4))
    total = np.full_like(p, 0.1)
    mu = o.get("momentum", 0)
    for t, g in enumerate(gradients, 1):
        if cls == "SGD":
            m = mu * m - rate * g
            p = p + (mu * m - rate * g if o.get("nesterov") else m)
        elif cls == "RMSprop":
            v = 0.9 * v + 0.1 * g**2
            mean = 0.9 * mean + 0.1 * g
            step = rate * g / np.sqrt(v - (mean**2 if o.get("centered") else 0) + 1e-7)
            m = mu * m + step
            p = p - (m if mu else step)
        elif cls == "Adam":
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            top = np.maximum(top, v)
            size = rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            p = p - size * m / (np.sqrt(top if o.get("amsgrad") else v) + 1e-7)
        else:
            total = total + g**2
            p = p - rate * g / np.sqrt(total + 1e-7)
    return p


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", VARIANTS)
def test_optimizer_matches_equations(name, dtype, rng):
    p = rng.normal(size=101)
    gradients = rng.normal(size=(6, 101))
    mine = p.astype(dtype)
    optimizer = make(name)
    for g in gradients:
        optimizer.apply(mine, g.astype(dtype), whole(101))
    assert mine.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(mine, oracle(name, p, gradients), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.1}])
@pytest.mark.parametrize("name", VARIANTS)
def test_rows_match_dense(name, clip, rng):
    """Updating only the touched rows of a table gives what updating the whole of it gives."""
    n, width, others = 30, 5, 7
    size = n * width + others
    p = rng.normal(size=size)
    lazy_p, lazy, dense = p.copy(), make(name, **clip), make(name, **clip)
    assert lazy.updates_rows
    rows = None
    runs = [(n * width, size)]
    lazy_plan = Plan(runs, runs, [Table(0, n * width, (n, width), lambda: rows, lambda _: None)])
    for _ in range(12):
        rows = np.unique(rng.integers(0, n, 6))
        g = np.zeros(size)
        g[: n * width].reshape(n, width)[rows] = rng.normal(size=(len(rows), width))
        g[n * width :] = rng.normal(size=others)
        lazy.apply(lazy_p, g.copy(), lazy_plan)
        dense.apply(p, g.copy(), whole(n * width, others))
        np.testing.assert_allclose(lazy_p, p, rtol=1e-10, atol=1e-12)


def table_gradients(rng, n, width, steps=12):
    """Rows with a gradient, and the gradient of the whole table, for some updates."""
    for _ in range(steps):
        rows = np.unique(rng.integers(0, n, 6))
        g = np.zeros((n, width))
        g[rows] = rng.normal(size=(len(rows), width))
        yield rows, g


def lazy_oracle(name, p, updates, rate=0.05):
    """The published equations on the rows of a batch; `t` counts all updates."""
    cls, o = VARIANTS[name]
    p = p.copy()
    m, v, top, mean = (np.zeros_like(p) for _ in range(4))
    mu = o.get("momentum", 0)
    for t, (r, g) in enumerate(updates, 1):
        g = g[r]
        if cls == "SGD":
            m[r] = mu * m[r] - rate * g
            p[r] += mu * m[r] - rate * g if o.get("nesterov") else m[r]
        elif cls == "RMSprop":
            v[r] = 0.9 * v[r] + 0.1 * g**2
            mean[r] = 0.9 * mean[r] + 0.1 * g
            spread = v[r] - (mean[r] ** 2 if o.get("centered") else 0) + 1e-7
            m[r] = mu * m[r] + rate * g / np.sqrt(spread)
            p[r] -= m[r]
        else:
            m[r] = 0.9 * m[r] + 0.1 * g
            v[r] = 0.999 * v[r] + 0.001 * g**2
            top[r] = np.maximum(top[r], v[r])
            size = rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            p[r] -= size * m[r] / (np.sqrt(top[r] if o.get("amsgrad") else v[r]) + 1e-7)
    return p


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "adagrad"])
def test_lazy_updates_match_equations_on_the_rows_of_a_batch(name, dtype, rng):
    n, width = 30, 5
    p = rng.normal(size=(n, width))
    updates = list(table_gradients(rng, n, width))
    mine, optimizer = p.astype(dtype).ravel(), make(name, lazy=True)
    for rows, g in updates:
        plan = Plan([], [], [Table(0, n * width, (n, width), lambda rows=rows: rows, lambda _: None)])
        optimizer.apply(mine, g.astype(dtype).ravel(), plan)
    expected = lazy_oracle(name, p, updates)
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(mine.reshape(n, width), expected, rtol=tolerance, atol=tolerance)
    if name != "sgd":  # the others give other numbers
        assert np.abs(expected - oracle(name, p, [g for _, g in updates])).max() > 1e-3


def test_lazy_adam_matches_sparse_adam_of_torch(rng):
    torch = pytest.importorskip("torch")
    n, width = 30, 5
    p = rng.normal(size=(n, width))
    weight = torch.nn.Parameter(torch.tensor(p))
    theirs = torch.optim.SparseAdam([weight], lr=0.05, eps=1e-7)
    mine, optimizer = p.ravel().copy(), make("adam", lazy=True)
    for rows, g in table_gradients(rng, n, width):
        plan = Plan([], [], [Table(0, n * width, (n, width), lambda rows=rows: rows, lambda _: None)])
        optimizer.apply(mine, g.ravel().copy(), plan)
        weight.grad = torch.sparse_coo_tensor(rows[None], g[rows], (n, width), check_invariants=True)
        theirs.step()
    np.testing.assert_allclose(mine.reshape(n, width), weight.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd-momentum", "rmsprop-momentum", "adam", "adam-amsgrad"])
def test_rows_that_never_had_a_gradient_are_not_touched(name):
    """They would not change, so the time of an update depends only on rows that had one."""
    n, width = 30, 5
    mine, optimizer = np.ones(n * width), make(name)
    plan = Plan([], [], [Table(0, n * width, (n, width), lambda: np.array([3, 7]), lambda _: None)])
    g = np.zeros((n, width))
    g[[3, 7]] = 1
    optimizer.apply(mine, g.ravel(), plan)
    assert optimizer.rows(plan.tables[0]).tolist() == [3, 7]
    other = plan.tables[0]._replace(rows=lambda: np.array([2]))
    assert optimizer.rows(other).tolist() == [2, 3, 7]
    state = optimizer.get_state()
    optimizer.set_state(state)  # which rows these were is found in the moments
    assert optimizer.rows(other).tolist() == [2, 3, 7]


def test_lazy_is_refused_where_it_means_nothing():
    with pytest.raises(ValueError, match=r"lazy=True.*weight_decay=0.1.*give only one"):
        optimizers.Adam(lazy=True, weight_decay=0.1)
    with pytest.raises(ValueError, match="lazy"):
        optimizers.Adam(lazy="yes")
    with pytest.raises(TypeError, match="lazy"):
        optimizers.Adagrad(lazy=True)


@pytest.mark.parametrize("name", ["sgd-momentum", "rmsprop", "adam"])
def test_lazy_is_a_part_of_the_configuration(name):
    optimizer = make(name, lazy=True)
    assert type(optimizer).from_config(optimizer.get_config()).lazy is True
    assert make(name).get_config()["lazy"] is False


@pytest.mark.parametrize("name", VARIANTS)
def test_which_optimizers_update_whole_tables(name):
    assert make(name).updates_rows
    assert not make(name, weight_decay=0.1).updates_rows
    if "adam" in name or name == "rmsprop-momentum":
        # A weight that never had a gradient is divided by zero then, in Keras too.
        assert not make(name, epsilon=0).updates_rows


def test_clipping(rng):
    g = rng.normal(size=10)

    def step(**clip):
        p = np.zeros(10)
        optimizers.SGD(1.0, **clip).apply(p, g.copy(), whole(4, 6))
        return -p

    each = np.concatenate([part * min(1, 0.3 / np.linalg.norm(part)) for part in (g[:4], g[4:])])
    np.testing.assert_allclose(step(clipnorm=0.3), each)
    np.testing.assert_allclose(step(global_clipnorm=0.3), g * 0.3 / np.linalg.norm(g))
    np.testing.assert_allclose(step(clipvalue=0.3), np.clip(g, -0.3, 0.3))
    np.testing.assert_allclose(step(clipnorm=100.0), g)


def test_weight_decay_comes_before_the_update(rng):
    p, g = rng.normal(size=5), rng.normal(size=5)
    mine = p.copy()
    optimizers.SGD(0.1, weight_decay=0.5).apply(mine, g.copy(), whole(5))
    np.testing.assert_allclose(mine, p * (1 - 0.05) - 0.1 * g)


def test_untouched_parts_stay(rng):
    """What is not in the plan (layers that aren't trained) keeps its values."""
    p = rng.normal(size=10)
    mine = p.copy()
    make("adam").apply(mine, np.ones(10), Plan([(3, 6)], [(3, 6)], []))
    assert (mine[3:6] != p[3:6]).all()
    np.testing.assert_array_equal(np.delete(mine, [3, 4, 5]), np.delete(p, [3, 4, 5]))


@pytest.mark.parametrize("name", VARIANTS)
def test_pickle_goes_on_where_it_was(name, rng):
    a, b = np.ones(8), np.ones(8)
    g = rng.normal(size=(4, 8))
    one = make(name)
    for k in range(2):
        one.apply(a, g[k].copy(), whole(8))
    other = pickle.loads(pickle.dumps(one))
    b[:] = a
    for k in range(2, 4):
        one.apply(a, g[k].copy(), whole(8))
        other.apply(b, g[k].copy(), whole(8))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", VARIANTS)
def test_state_round_trip(name, rng):
    p, optimizer = np.ones(8), make(name)
    optimizer.apply(p, rng.normal(size=8), whole(8))
    state, before = optimizer.get_state(), p.copy()
    g = rng.normal(size=8)
    optimizer.apply(p, g.copy(), whole(8))
    after = p.copy()
    optimizer.set_state(state)
    p[:] = before
    optimizer.apply(p, g.copy(), whole(8))
    np.testing.assert_array_equal(p, after)


@pytest.mark.parametrize("name", VARIANTS)
def test_config_round_trip(name):
    optimizer = make(name, clipnorm=1.0)
    again = optimizers.get({"class_name": type(optimizer).__name__, "config": optimizer.get_config()})
    assert again.get_config() == optimizer.get_config()


def test_bad_arguments():
    with pytest.raises(ValueError, match="optimizer='adm' is not an optimizer: did you mean 'adam'"):
        optimizers.get("adm")
    with pytest.raises(TypeError, match=r"Adam\(\) got an unknown argument 'lr'"):
        optimizers.Adam(lr=0.1)
    with pytest.raises(ValueError, match="learning_rate=-1"):
        optimizers.SGD(-1)
    with pytest.raises(ValueError, match="only one of clipnorm"):
        optimizers.SGD(clipnorm=1, clipvalue=1)
    with pytest.raises(ValueError, match="momentum=2"):
        optimizers.SGD(momentum=2)
    with pytest.raises(NotImplementedError, match="use_ema"):
        optimizers.SGD(use_ema=True)


SCHEDULES = [
    ("ExponentialDecay", (0.1, 10, 0.5), {}),
    ("ExponentialDecay", (0.1, 10, 0.5), {"staircase": True}),
    ("InverseTimeDecay", (0.1, 10, 0.5), {}),
    ("PiecewiseConstantDecay", ([3, 9], [0.1, 0.05, 0.01]), {}),
    ("PolynomialDecay", (0.1, 10), {"power": 2.0}),
    ("PolynomialDecay", (0.1, 7), {"cycle": True}),
    ("CosineDecay", (0.1, 10), {"alpha": 0.1}),
    ("CosineDecay", (0.0, 10), {"warmup_target": 0.1, "warmup_steps": 4}),
    ("CosineDecayRestarts", (0.1, 5), {}),
    ("CosineDecayRestarts", (0.1, 5), {"t_mul": 1.0, "m_mul": 0.9, "alpha": 0.05}),
]


def test_schedule_is_called_with_the_number_of_updates():
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([1], [1.0, 0.5]))
    p = np.zeros(1)
    for _ in range(3):
        optimizer.apply(p, np.ones(1), whole(1))
    assert p[0] == -2.5
    with pytest.raises(TypeError, match="follows a schedule"):
        optimizer.learning_rate = 0.1
    again = optimizers.SGD.from_config(optimizer.get_config())
    assert again.learning_rate == 1.0


def test_learning_rate_from_functions():
    assert optimizers.SGD(lambda: 0.25).learning_rate == 0.25
    assert optimizers.SGD(lambda step: 0.5 / (step + 1)).learning_rate == 0.5


# -- embedding kernels


@pytest.mark.parametrize("tokens", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embedding_kernels(dtype, tokens, rng):
    table = rng.normal(size=(20, 3)).astype(dtype)
    index = rng.integers(2, 15, 40).astype(tokens)
    out = np.empty((40, 3), dtype)
    assert update.gather(table, index, out) == -1
    np.testing.assert_array_equal(out, table[index])
    marks = np.zeros(20, np.uint8)
    rows = update.mark_rows(index, marks)
    np.testing.assert_array_equal(rows, np.unique(index))
    assert rows.dtype == np.int64
    assert not marks.any()
    grad, expected = np.zeros((20, 3), dtype), np.zeros((20, 3), dtype)
    update.scatter_add(out, index, grad)
    np.add.at(expected, index, out)
    np.testing.assert_allclose(grad, expected, rtol=1e-6)
    update.zero_rows(grad, rows)
    assert not grad.any()
    for wrong in (-1, 20):
        index[5] = wrong
        assert update.gather(table, index, out) == 5


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, where the kernels run as plain Python
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite(bad):
    g = np.zeros(100, np.float32)
    assert update.all_finite(g)
    g[77] = bad
    assert not update.all_finite(g)
    assert update.all_finite(np.full(4, np.finfo(np.float32).max))


# -- Keras


def loaded(oracle):
    try:
        return oracle.load()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.peers
@pytest.mark.parametrize(("name", "arguments", "options"), SCHEDULES)
def test_schedule_matches_keras(name, arguments, options):
    from tests import keras_oracle

    theirs = getattr(loaded(keras_oracle).optimizers.schedules, name)(*arguments, **options)
    mine = getattr(schedules, name)(*arguments, **options)
    for step in range(25):
        expected = float(keras_oracle.to_numpy(theirs(step)))
        assert mine(step) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_optimizer_of_two_models_is_refused():
    """Its moments would be mixed silently; a copy, or an optimizer that its model no longer uses, is allowed."""
    x, y = np.ones((4, 3, 2)), np.ones((4, 1))
    first, second = (
        Sequential([layers.GRU(3), layers.Dense(1)], seed=seed, name=f"net{seed}") for seed in (0, 1)
    )
    shared = optimizers.Adam(0.01)
    first.compile(shared, "mse")
    first.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="is in use by the model 'net0'.*from_config"):
        second.compile(shared, "mse")
    assert second.optimizer is None
    first.compile(shared, "mae")  # the same model may go on with it
    second.compile(copy.deepcopy(shared), "mse")
    twin = first.copy()
    twin.compile(twin.optimizer, "mse")
    first.compile("sgd", "mse")
    second.compile(shared, "mse")
    pickle.loads(pickle.dumps(second)).fit(x, y, verbose=0)


@pytest.mark.parametrize("gone", [False, True])
def test_optimizer_taken_over_from_another_model_starts_anew(gone):
    """As in a loop over folds that makes a model for each, with one optimizer object."""
    x, y = np.ones((4, 3, 2)), np.ones((4, 1))
    first, second, third = (Sequential([layers.GRU(3), layers.Dense(1)], seed=seed) for seed in (0, 1, 1))
    shared = optimizers.Adam(0.1)
    first.compile(shared, "mse")
    first.fit(x, y, epochs=5, verbose=0)
    if gone:
        del first
        gc.collect()
    else:
        first.compile("sgd", "mse")
    second.compile(shared, "mse")
    third.compile(optimizers.Adam(0.1), "mse")
    for model in (second, third):
        model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(second.params, third.params)
    assert shared.iterations == 1
