r"""Meanings of the network's outputs (numbers, quantiles, or parameters of a distribution) and their losses.

A *head* interprets the raw outputs of an origin, of shape (..., horizon, n_outputs), in units of the relative targets z of
:mod:`fastrnn.forecasting.targets`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from fastrnn.losses import Loss

__all__ = ["DISTRIBUTIONS", "Head", "HorizonLoss", "make_head"]

#: The least spread of a normal or t distribution, in units of the target's scale.
_LEAST_SPREAD = 1e-3


class HorizonLoss(Loss):
    """Loss of the forecasts from an origin: the mean over the steps ahead, where the loss of missing steps is zero.

    Missing targets are NaN.

    Parameters
    ----------
    head : Head
    """

    default_name = "horizon_loss"
    _config_names = ()

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def targets(self, y_true: Any, y_pred: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(y_true)

    def _parts(
        self, y_true: NDArray[Any], y_pred: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any]]:
        head = self.head
        raw = y_pred.reshape(*y_pred.shape[:-1], head.horizon, head.n_outputs)
        z, scale = y_true, None
        if head.needs_scale:
            z, scale = y_true[..., :-1], np.maximum(y_true[..., -1:], y_true.dtype.type(1e-6))
        known = ~np.isnan(z)
        return raw, np.where(known, z, z.dtype.type(0)), scale, known

    def values(self, y_true: NDArray[Any], y_pred: NDArray[Any]) -> NDArray[Any]:
        raw, z, scale, known = self._parts(y_true, y_pred)
        values = self.head.losses(z, raw, scale) * known
        result: NDArray[Any] = values.sum(axis=-1) / values.dtype.type(self.head.horizon)
        return result

    def gradient(self, y_true: NDArray[Any], y_pred: NDArray[Any]) -> NDArray[Any]:
        raw, z, scale, known = self._parts(y_true, y_pred)
        grad = self.head.gradients(z, raw, scale)
        grad *= known[..., None] / grad.dtype.type(self.head.horizon)
        return np.ascontiguousarray(grad.reshape(y_pred.shape), dtype=y_pred.dtype)


class Head:
    """One number for each step ahead, trained with the absolute or squared error.

    Parameters
    ----------
    horizon : int
    loss : {"absolute_error", "squared_error"}
    """

    n_outputs = 1
    #: Whether the loss needs the scale of the targets, as the last column of y.
    needs_scale = False
    #: Whether values must be non-negative integers.
    counts = False
    has_distribution = False

    def __init__(self, horizon: int, loss: str = "absolute_error") -> None:
        self.horizon, self.loss = horizon, loss

    def losses(self, z: NDArray[Any], raw: NDArray[Any], scale: NDArray[Any] | None) -> NDArray[Any]:
        """Loss of each step ahead, of the shape of z."""
        error = raw[..., 0] - z
        result: NDArray[Any] = np.abs(error) if self.loss == "absolute_error" else error * error
        return result

    def gradients(self, z: NDArray[Any], raw: NDArray[Any], scale: NDArray[Any] | None) -> NDArray[Any]:
        """Derivative of each step's loss with respect to its raw outputs."""
        error = raw - z[..., None]
        result: NDArray[Any] = np.sign(error) if self.loss == "absolute_error" else 2 * error
        return result

    def point(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Point forecast of each step ahead."""
        return raw[..., 0]


class QuantileHead(Head):
    """Quantiles that never cross, trained with the pinball loss.

    The middle quantile is an output; each of the others differs from its inner neighbour by the softplus of an output.

    Parameters
    ----------
    horizon : int
    levels : sequence of float
        In ascending order.
    """

    def __init__(self, horizon: int, levels: Sequence[float]) -> None:
        super().__init__(horizon)
        self.levels = np.asarray(levels, np.float64)
        self.n_outputs = len(levels)
        self.middle = int(np.argmin(np.abs(self.levels - 0.5)))

    def quantiles_of(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Convert raw outputs to the quantiles of `levels`, along the last axis."""
        c = self.middle
        steps = np.logaddexp(raw, raw.dtype.type(0))
        out = np.empty_like(raw)
        out[..., c] = raw[..., c]
        for i in range(c + 1, self.n_outputs):
            out[..., i] = out[..., i - 1] + steps[..., i]
        for i in range(c - 1, -1, -1):
            out[..., i] = out[..., i + 1] - steps[..., i]
        return out

    def losses(self, z: Any, raw: Any, scale: Any) -> Any:
        error = z[..., None] - self.quantiles_of(raw)
        levels = self.levels.astype(raw.dtype)
        return np.maximum(levels * error, (levels - 1) * error).mean(axis=-1)

    def gradients(self, z: Any, raw: Any, scale: Any) -> Any:
        levels = self.levels.astype(raw.dtype)
        slope = np.where(z[..., None] > self.quantiles_of(raw), -levels, 1 - levels) / raw.dtype.type(
            self.n_outputs
        )
        c, rate = self.middle, special.expit(raw)
        grad = np.empty_like(raw)
        grad[..., c] = slope.sum(axis=-1)
        outer = np.cumsum(slope[..., ::-1], axis=-1)[..., ::-1]
        grad[..., c + 1 :] = outer[..., c + 1 :] * rate[..., c + 1 :]
        grad[..., :c] = -np.cumsum(slope, axis=-1)[..., :c] * rate[..., :c]
        return grad

    def point(self, raw: Any) -> Any:
        return raw[..., self.middle]


class NormalHead(Head):
    r"""Normal distribution: :math:`\mu = r_0,\ \sigma = \operatorname{softplus}(r_1) + 0.001`."""

    n_outputs = 2
    has_distribution = True

    def parameters(self, raw: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Location and spread (and degrees of freedom)."""
        return raw[..., 0], np.logaddexp(raw[..., 1], raw.dtype.type(0)) + raw.dtype.type(_LEAST_SPREAD)

    def losses(self, z: Any, raw: Any, scale: Any) -> Any:
        mean, spread = self.parameters(raw)
        u = (z - mean) / spread
        return raw.dtype.type(0.5) * u * u + np.log(spread)

    def gradients(self, z: Any, raw: Any, scale: Any) -> Any:
        mean, spread = self.parameters(raw)
        u = (z - mean) / spread
        rate = special.expit(raw[..., 1])
        return np.stack([-u / spread, (1 - u * u) / spread * rate], axis=-1)

    def ppf(self, p: Any, raw: NDArray[Any], scale: Any) -> NDArray[Any]:
        """Quantile function, in units of z; p is broadcast to the steps ahead."""
        mean, spread = self.parameters(raw.astype(np.float64))
        result: NDArray[Any] = stats.norm.ppf(p, mean, spread)
        return result

    def cdf(self, z: NDArray[Any], raw: NDArray[Any], scale: Any) -> NDArray[Any]:
        """Distribution function, in units of z."""
        mean, spread = self.parameters(raw.astype(np.float64))
        result: NDArray[Any] = stats.norm.cdf(z, mean, spread)
        return result


class StudentTHead(NormalHead):
    r"""Student's t distribution, of :math:`\nu = 2 + \operatorname{softplus}(r_2)` degrees of freedom."""

    n_outputs = 3

    def parameters(self, raw: Any) -> Any:
        mean, spread = NormalHead.parameters(self, raw)
        return mean, spread, 2 + np.logaddexp(raw[..., 2], raw.dtype.type(0))

    def losses(self, z: Any, raw: Any, scale: Any) -> Any:
        mean, spread, nu = self.parameters(raw)
        u = (z - mean) / spread
        log_norm = special.gammaln(nu / 2) - special.gammaln((nu + 1) / 2) + 0.5 * np.log(nu * np.pi)
        return (log_norm + np.log(spread) + (nu + 1) / 2 * np.log1p(u * u / nu)).astype(raw.dtype)

    def gradients(self, z: Any, raw: Any, scale: Any) -> Any:
        mean, spread, nu = self.parameters(raw)
        u = (z - mean) / spread
        pull = (nu + 1) * u / (nu + u * u)
        d_spread = (1 - u * pull) / spread
        d_nu = 0.5 * (
            special.digamma(nu / 2)
            - special.digamma((nu + 1) / 2)
            + 1 / nu
            + np.log1p(u * u / nu)
            - pull * u / nu
        )
        rates = special.expit(raw[..., 1]), special.expit(raw[..., 2])
        return np.stack([-pull / spread, d_spread * rates[0], d_nu * rates[1]], axis=-1).astype(raw.dtype)

    def ppf(self, p: Any, raw: Any, scale: Any) -> Any:
        mean, spread, nu = self.parameters(raw.astype(np.float64))
        return stats.t.ppf(p, nu, mean, spread)

    def cdf(self, z: Any, raw: Any, scale: Any) -> Any:
        mean, spread, nu = self.parameters(raw.astype(np.float64))
        return stats.t.cdf(z, nu, mean, spread)


class PoissonHead(Head):
    r"""Poisson distribution of counts, of mean :math:`m = \sigma \operatorname{softplus}(r_0 + c)`, m = σ at r = 0.

    σ is the scale of the target: the mean of the series up to the origin.
    """

    needs_scale = True
    counts = True
    has_distribution = True
    _offset = float(np.log(math.e - 1))

    def ratio(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Mean in units of the scale."""
        result: NDArray[Any] = np.logaddexp(
            raw[..., 0] + raw.dtype.type(self._offset), raw.dtype.type(0)
        ) + raw.dtype.type(1e-6)
        return result

    def losses(self, z: Any, raw: Any, scale: Any) -> Any:
        mean, y = scale * self.ratio(raw), scale * z
        return (mean - y * np.log(mean) + special.gammaln(y + 1)).astype(raw.dtype)

    def _d_ratio(self, raw: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = special.expit(raw[..., 0] + raw.dtype.type(self._offset))
        return result

    def gradients(self, z: Any, raw: Any, scale: Any) -> Any:
        ratio = self.ratio(raw)
        return ((scale - scale * z / ratio) * self._d_ratio(raw))[..., None].astype(raw.dtype)

    def point(self, raw: Any) -> Any:
        return self.ratio(raw)

    def ppf(self, p: Any, raw: Any, scale: Any) -> Any:
        return stats.poisson.ppf(p, scale * self.ratio(raw.astype(np.float64))) / scale

    def cdf(self, z: Any, raw: Any, scale: Any) -> Any:
        return stats.poisson.cdf(np.rint(z * scale), scale * self.ratio(raw.astype(np.float64)))


class NegativeBinomialHead(PoissonHead):
    r"""Negative binomial distribution: mean m as for Poisson, variance :math:`m + m^2 / a`, with
    :math:`a = \operatorname{softplus}(r_1) + 0.01`.
    """

    n_outputs = 2

    def shape_of(self, raw: NDArray[Any]) -> NDArray[Any]:
        """The parameter a; the variance decreases with a."""
        result: NDArray[Any] = np.logaddexp(raw[..., 1], raw.dtype.type(0)) + raw.dtype.type(0.01)
        return result

    def losses(self, z: Any, raw: Any, scale: Any) -> Any:
        mean, y, a = scale * self.ratio(raw), scale * z, self.shape_of(raw)
        return (
            special.gammaln(a)
            - special.gammaln(a + y)
            + special.gammaln(y + 1)
            + (a + y) * np.log(a + mean)
            - a * np.log(a)
            - y * np.log(mean)
        ).astype(raw.dtype)

    def gradients(self, z: Any, raw: Any, scale: Any) -> Any:
        ratio, a = self.ratio(raw), self.shape_of(raw)
        mean, y = scale * ratio, scale * z
        d_mean = (a + y) / (a + mean) - y / mean
        d_a = (
            special.digamma(a)
            - special.digamma(a + y)
            + np.log(a + mean)
            + (a + y) / (a + mean)
            - np.log(a)
            - 1
        )
        return np.stack(
            [d_mean * scale * self._d_ratio(raw), d_a * special.expit(raw[..., 1])], axis=-1
        ).astype(raw.dtype)

    def _scipy(self, raw: NDArray[Any], scale: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        raw = raw.astype(np.float64)
        a = self.shape_of(raw)
        return a, a / (a + scale * self.ratio(raw))

    def ppf(self, p: Any, raw: Any, scale: Any) -> Any:
        return stats.nbinom.ppf(p, *self._scipy(raw, scale)) / scale

    def cdf(self, z: Any, raw: Any, scale: Any) -> Any:
        return stats.nbinom.cdf(np.rint(z * scale), *self._scipy(raw, scale))


DISTRIBUTIONS = {
    "normal": NormalHead,
    "student_t": StudentTHead,
    "poisson": PoissonHead,
    "negative_binomial": NegativeBinomialHead,
}


def make_head(horizon: int, loss: str, quantiles: Sequence[float] | None, distribution: str | None) -> Head:
    """Return the head for the forecaster's arguments."""
    if distribution is not None:
        return DISTRIBUTIONS[distribution](horizon)
    return Head(horizon, loss) if quantiles is None else QuantileHead(horizon, quantiles)
