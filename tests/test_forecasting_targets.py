import math

import numpy as np
import pytest

from fastrnn.forecasting.distributions import DISTRIBUTIONS, HorizonLoss, make_head
from fastrnn.forecasting.linear import LinearForecast, fit_linear
from fastrnn.forecasting.targets import Reference, SeriesHistory, TargetPlan, references_for


def plan(horizon=5, seasons=(4, 8), target="auto", log=False, zero_based=False, compare=False):
    linear = None
    if target == "linear":
        weights = np.random.default_rng(1).normal(size=(references_for(seasons, target)[-1].lag - 1, horizon))
        linear = LinearForecast(weights / 10, np.linspace(0.1, 0.5, weights.shape[1]))
    return TargetPlan(horizon, references_for(seasons, target), log, zero_based, compare, linear=linear)


def series(n=60, missing=(), seed=0):
    rng = np.random.default_rng(seed)
    y = 20 + 5 * np.sin(np.arange(n) * np.pi / 2) + 0.1 * np.arange(n) + rng.normal(size=n)
    y[list(missing)] = np.nan
    return y


def naive_base(s, reference, t, k):
    """The reference written with loops: what is known at t of the step t + k."""

    def filled(at, lag):
        while at >= 0 and math.isnan(s[at]):
            at -= lag
        return s[at] if at >= 0 else math.nan

    kind, lag = reference
    if kind == "last":
        return filled(t, 1)
    j = math.ceil(k / lag)
    if kind == "smooth":
        mean = math.nan
        for at in range((t + k) % lag, t + k - j * lag + 1, lag):
            if not math.isnan(s[at]):
                mean = s[at] if math.isnan(mean) else mean + 0.3 * (s[at] - mean)
        return mean
    base = filled(t + k - j * lag, lag) if t + k - j * lag >= 0 else math.nan
    if kind == "season":
        return base
    changes = [filled(i, lag) - filled(i - lag, lag) for i in range(lag, t + 1)]
    if t < 2 * lag - 1:
        return math.nan
    return base + j * sum(0 if math.isnan(c) else c for c in changes) / len(changes)


@pytest.mark.parametrize("missing", [(), (3, 4, 20, 21, 22, 23, 24, 40, 59)], ids=["whole", "gaps"])
def test_references_match_loops(missing):
    y, p = series(missing=missing), plan()
    history = SeriesHistory(p)
    history.extend(y)
    origins = np.arange(12, 60)
    for r, reference in enumerate(p.references):
        for k in (1, 3, 4, 5):
            expected = [naive_base(y, reference, t, k) for t in origins]
            np.testing.assert_allclose(history._base(r, origins, k), expected, rtol=1e-12)


@pytest.mark.parametrize("missing", [(), (3, 20, 21, 22, 23, 24, 40)], ids=["whole", "gaps"])
def test_reference_chosen_has_the_least_mean_error_so_far(missing):
    y, p = series(missing=missing), plan()
    history = SeriesHistory(p)
    history.extend(y)
    for t in (30, 45, 59):
        means = []
        for r in p.references:
            errors = [
                abs(y[u] - naive_base(y, r, u - k, k)) for u in range(t + 1) for k in p.probes if u >= k
            ]
            known = [e for e in errors if not math.isnan(e)]
            means.append(sum(known) / len(known))
        assert history.choice(t) == p.references[int(np.argmin(means))]
        np.testing.assert_allclose(history.scale(np.array([t])), min(means), rtol=1e-9)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("target", ["auto", "last", "season", "smooth", "drift", "linear"])
def test_invert_undoes_targets(log, target):
    y = series()
    history = SeriesHistory(plan(target=target, log=log))
    history.extend(y)
    origins = np.arange(20, 55)
    z = history.targets(20, 55).astype(np.float64)
    future = np.array([y[t + 1 : t + 6] for t in origins])
    np.testing.assert_allclose(history.invert(origins, z), future, rtol=1e-6)


def test_targets_are_nan_where_the_value_is_missing_or_not_known_yet():
    history = SeriesHistory(plan())
    history.extend(series(missing=(50,)))
    z = history.targets(0, 60)
    known = ~np.isnan(z)
    for t in range(20, 60):
        for k in range(1, 6):
            assert known[t, k - 1] == (t + k < 60 and t + k != 50)


@pytest.mark.parametrize("pieces", [(1,) * 60, (7, 1, 20, 32), (59, 1)], ids=["single", "mixed", "last"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize("target", ["auto", "linear"])
@pytest.mark.parametrize("zero_based", [False, True])
def test_history_in_pieces_is_bitwise_the_whole(pieces, log, compare, target, zero_based):
    y = series(missing=(3, 4, 20, 21, 22, 23, 24, 40))
    p = plan(log=log, compare=compare, target=target, zero_based=zero_based)
    whole, split = SeriesHistory(p), SeriesHistory(p)
    whole.extend(y)
    at = 0
    for n in pieces:
        split.extend(y[at : at + n])
        at += n
    np.testing.assert_array_equal(split.features(0, 60), whole.features(0, 60))
    np.testing.assert_array_equal(split.features(37, 41), whole.features(37, 41))
    origins = np.arange(60)
    np.testing.assert_array_equal(split.base(origins), whole.base(origins))
    np.testing.assert_array_equal(split.scale(origins), whole.scale(origins))
    for t in origins:
        np.testing.assert_array_equal(whole.features(t, t + 1)[0], whole.features(0, 60)[t])
        np.testing.assert_array_equal(whole.base(origins[t : t + 1])[0], whole.base(origins)[t])


@pytest.mark.parametrize("target", ["auto", "linear"])
def test_future_does_not_change_past_features_or_references(target):
    p, y = plan(target=target, compare=True), series()
    changed = y.copy()
    changed[40:] = [np.nan, 1e6, *(-y[42:])]
    one, other = SeriesHistory(p), SeriesHistory(p)
    one.extend(y)
    other.extend(changed)
    origins = np.arange(40)
    np.testing.assert_array_equal(one.features(0, 40), other.features(0, 40))
    np.testing.assert_array_equal(one.base(origins), other.base(origins))
    np.testing.assert_array_equal(one.scale(origins), other.scale(origins))


def test_linear_reference_is_the_map_of_the_window_before_the_origin():
    p, y = plan(target="linear"), series(missing=(30, 31))
    history = SeriesHistory(p)
    history.extend(y)
    filled = [naive_base(y, Reference("last", 1), t, 1) for t in range(60)]
    window = p.linear.window
    assert window == p.references[-1].lag == 24
    ahead = history._base(len(p.references) - 1, np.arange(60)[:, None], np.arange(1, 6))
    assert np.isnan(ahead[: window - 1]).all()
    for t in range(window - 1, 60):
        for k in range(1, 6):
            expected = filled[t] + p.linear.intercept[k - 1]
            for i in range(window - 1):
                expected += p.linear.weights[i, k - 1] * (filled[t - window + 1 + i] - filled[t])
            assert ahead[t, k - 1] == pytest.approx(expected, rel=1e-12)


def test_fit_linear_finds_the_weights_of_a_series_that_follows_them():
    rng = np.random.default_rng(0)
    y = [rng.normal(size=24).tolist() for _ in range(2)]
    for values in y:
        for _ in range(1500):
            values.append(0.6 * values[-1] + 0.4 * values[-7] + 0.1 * rng.normal())
    linear = fit_linear([np.array(values) for values in y], 8, 3)
    expected = np.zeros(7)
    expected[1] = 0.4
    np.testing.assert_allclose(linear.weights[:, 0], expected, atol=0.1)
    y[0][50] = np.nan
    with_gap = fit_linear([np.array(values) for values in y], 8, 3)
    np.testing.assert_allclose(with_gap.weights, linear.weights, atol=0.01)
    assert np.isfinite(with_gap.weights).all()


def test_fit_linear_finds_the_drift_of_a_random_walk_whatever_the_penalty():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0.3, 1, size=6000))
    linear = fit_linear([walk, walk[:3000] + 50], 8, 3)
    np.testing.assert_allclose(linear.intercept, [0.3, 0.6, 0.9], atol=0.1)
    np.testing.assert_allclose(linear.weights, 0, atol=0.1)


def test_fit_linear_of_what_holds_no_window_is_none():
    assert fit_linear([np.arange(9.0), np.full(50, np.nan)], 8, 3) is None
    assert np.isfinite(fit_linear([np.full(50, 7.0)], 8, 3).weights).all()


def test_history_copy_is_independent():
    history = SeriesHistory(plan())
    history.extend(series()[:50])
    before = history.features(0, 50).copy()
    copied = history.copy()
    copied.extend(series()[50:])
    assert (len(history), len(copied)) == (50, 60)
    np.testing.assert_array_equal(history.features(0, 50), before)


@pytest.mark.parametrize(
    "y", [np.full(30, 3.0), np.zeros(30), np.array([5.0])], ids=["constant", "zero", "one"]
)
def test_degenerate_series_have_finite_features_and_repeat_themselves(y):
    history = SeriesHistory(plan())
    history.extend(y)
    n = len(y)
    assert np.isfinite(history.features(0, n)).all()
    np.testing.assert_allclose(history.invert(np.array([n - 1]), np.zeros((1, 5)))[0], y[-1])


def test_references_for_names_what_each_target_means():
    last, drift = Reference("last", 1), Reference("drift", 4)
    seasons = (Reference("season", 4), Reference("season", 28))
    means = (Reference("smooth", 4), Reference("smooth", 28))
    assert references_for((4, 28), "auto") == (last, *seasons, *means, drift)
    assert references_for((4, 28), "season") == (last, *seasons)
    assert references_for((4, 28), "smooth") == (last, *means)
    assert references_for((4, 28), "drift") == (last, drift)
    assert references_for((1,), "auto") == (last,)


HEADS = {
    "absolute": make_head(3, "absolute_error", None, None),
    "squared": make_head(3, "squared_error", None, None),
    "quantiles": make_head(3, "absolute_error", (0.1, 0.25, 0.5, 0.9), None),
    **{name: make_head(3, "absolute_error", None, name) for name in DISTRIBUTIONS},
}


@pytest.mark.parametrize("name", HEADS)
def test_loss_gradient_matches_finite_difference(name):
    head, rng = HEADS[name], np.random.default_rng(1)
    loss = HorizonLoss(head)
    raw = rng.normal(size=(2, 4, 3 * head.n_outputs))
    z = rng.normal(size=(2, 4, 3))
    if head.needs_scale:
        scale = rng.uniform(1, 4, size=(2, 4, 1))
        z = np.concatenate([rng.poisson(3, size=z.shape) / scale, scale], axis=-1)
    z[0, 1, 2] = z[1, 3, 0] = np.nan
    mask = np.ones((2, 4), bool)
    mask[1, 3] = False
    value, grad = loss.value_and_grad(z, raw, None, mask)
    assert np.isfinite(value)
    for index in np.ndindex(*raw.shape):
        step = np.zeros_like(raw)
        step[index] = 1e-6
        slope = (loss.value(z, raw + step, None, mask) - loss.value(z, raw - step, None, mask)) / 2e-6
        np.testing.assert_allclose(grad[index], slope, rtol=1e-4, atol=1e-8)


def test_missing_targets_change_neither_loss_nor_gradient():
    head = HEADS["absolute"]
    loss, raw = HorizonLoss(head), np.random.default_rng(0).normal(size=(1, 2, 3))
    z = np.array([[[1.0, np.nan, 2.0], [np.nan, np.nan, np.nan]]])
    value, grad = loss.value_and_grad(z, raw)
    other = raw.copy()
    other[np.isnan(z)] += 100
    assert loss.value(z, other) == value
    assert (grad[np.isnan(z)] == 0).all()
    assert (grad[~np.isnan(z)] != 0).all()


def test_quantiles_never_cross():
    head = HEADS["quantiles"]
    raw = np.random.default_rng(0).normal(scale=30, size=(50, 3, 4)).astype(np.float32)
    assert (np.diff(head.quantiles_of(raw), axis=-1) >= 0).all()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution_functions_are_inverse(name):
    head, rng = HEADS[name], np.random.default_rng(0)
    raw, scale = rng.normal(size=(5, 3, head.n_outputs)), 6.0
    p = rng.uniform(0.05, 0.95, size=(5, 3))
    z = head.ppf(p, raw, scale)
    if head.counts:  # the smallest count whose distribution function reaches p
        assert (head.cdf(z, raw, scale) >= p - 1e-9).all()
        below = head.cdf(z - 1 / scale, raw, scale)
        assert ((below < p) | (z <= 0)).all()
    else:
        np.testing.assert_allclose(head.cdf(z, raw, scale), p, atol=1e-9)


@pytest.mark.parametrize("name", ["normal", "student_t", "poisson", "negative_binomial"])
def test_loss_is_the_negative_log_density_of_scipy(name):
    from scipy import stats

    head, rng = HEADS[name], np.random.default_rng(0)
    raw = rng.normal(size=(4, 3, head.n_outputs))
    if head.counts:
        scale, y = np.full((4, 1), 3.0), rng.poisson(3, size=(4, 3))
        mean = scale * head.ratio(raw)
        if name == "poisson":
            expected = -stats.poisson.logpmf(y, mean)
        else:
            a = head.shape_of(raw)
            expected = -stats.nbinom.logpmf(y, a, a / (a + mean))
        np.testing.assert_allclose(head.losses(y / scale, raw, scale), expected, rtol=1e-9)
        return
    z, parameters = rng.normal(size=(4, 3)), head.parameters(raw)
    if name == "normal":
        expected = -stats.norm.logpdf(z, *parameters) - 0.5 * np.log(2 * np.pi)  # the constant is left out
    else:
        mean, spread, nu = parameters
        expected = -stats.t.logpdf(z, nu, mean, spread)
    np.testing.assert_allclose(head.losses(z, raw, None), expected, rtol=1e-9)
