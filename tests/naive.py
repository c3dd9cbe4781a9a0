"""Slow, obvious NumPy versions of what the library computes: the oracle of the tests.

Nothing here is shared with ``fastrnn``; every function follows its equation line by line, with one loop over time
and one product per gate. Arrays are ``(batch, time, features)``; weights are lists in Keras's order, ``[kernel,
recurrent_kernel, bias]`` without the bias where ``use_bias`` is false. The dtype of the input is kept throughout.
"""

from __future__ import annotations

import math

import numpy as np

# --------------------------------------------------------------------------------------------- activations


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _shifted(x):
    return x - x.max(axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(_shifted(x))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    s = _shifted(x)
    return s - np.log(np.exp(s).sum(axis=-1, keepdims=True))


def _elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(x):
    return x * (0.5 * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / math.sqrt(2.0))))


def _sparse_plus(x):
    return np.where(x <= -1, 0, np.where(x < 1, 0.25 * (x + 1) ** 2, x))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": _elu,
    "selu": lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
    "celu": _elu,
    "gelu": _gelu,
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "soft_shrink": lambda x: np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, 0)),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "sparse_plus": _sparse_plus,
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "log_sigmoid": lambda x: -softplus(-x),
    "sparse_sigmoid": lambda x: np.clip(0.5 * (x + 1), 0, 1),
    "exponential": np.exp,
    "softmax": softmax,
    "log_softmax": log_softmax,
}


def activate(name, x):
    """The activation called ``name`` (None is linear), in the dtype of ``x``."""
    return np.asarray(ACTIVATIONS[name or "linear"](x), dtype=x.dtype)


# --------------------------------------------------------------------------------------------- one step of a cell

N_GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3, "peephole_lstm": 4, "janet": 2, "indrnn": 1}
N_STATES = {"simple_rnn": 1, "lstm": 2, "gru": 1, "peephole_lstm": 2, "janet": 1, "indrnn": 1}


def _per_gate(a, masks, n_gates):
    """``a`` as each gate sees it: times nothing, times one mask for all gates, or times the gate's own mask."""
    if masks is None:
        return [a] * n_gates
    if isinstance(masks, (list, tuple)):
        return [a * masks[g] for g in range(n_gates)]
    return [a * masks] * n_gates


def _columns(a, n_gates):
    return [None] * n_gates if a is None else np.split(a, n_gates, axis=-1)


def _affine(x, W, b):
    return x @ W if b is None else x @ W + b


def simple_rnn_step(x, states, weights, *, activation="tanh", x_masks=None, h_masks=None, **_):
    W, U, *b = weights
    (xd,), (hd,) = _per_gate(x, x_masks, 1), _per_gate(states[0], h_masks, 1)
    h = activate(activation, _affine(xd, W, b[0] if b else None) + hd @ U)
    return h, [h]


def lstm_step(
    x, states, weights, *, activation="tanh", recurrent_activation="sigmoid", x_masks=None, h_masks=None, **_
):
    h, c = states
    W, U = (_columns(a, 4) for a in weights[:2])
    b = _columns(weights[2] if len(weights) > 2 else None, 4)
    xs, hs = _per_gate(x, x_masks, 4), _per_gate(h, h_masks, 4)
    zi, zf, zc, zo = (_affine(xs[g], W[g], b[g]) + hs[g] @ U[g] for g in range(4))
    i, f = activate(recurrent_activation, zi), activate(recurrent_activation, zf)
    c = f * c + i * activate(activation, zc)
    h = activate(recurrent_activation, zo) * activate(activation, c)
    return h, [h, c]


def peephole_lstm_step(
    x, states, weights, *, activation="tanh", recurrent_activation="sigmoid", x_masks=None, h_masks=None, **_
):
    """An LSTM whose gates also see the cell: ``weights`` ends with three rows ``(3, units)`` for i, f and o.

    Input and forget gate see the old cell, the output gate the new one (Gers & Schmidhuber 2000).
    """
    h, c = states
    *weights, P = weights
    W, U = (_columns(a, 4) for a in weights[:2])
    b = _columns(weights[2] if len(weights) > 2 else None, 4)
    xs, hs = _per_gate(x, x_masks, 4), _per_gate(h, h_masks, 4)
    zi, zf, zc, zo = (_affine(xs[g], W[g], b[g]) + hs[g] @ U[g] for g in range(4))
    i, f = activate(recurrent_activation, zi + P[0] * c), activate(recurrent_activation, zf + P[1] * c)
    c = f * c + i * activate(activation, zc)
    h = activate(recurrent_activation, zo + P[2] * c) * activate(activation, c)
    return h, [h, c]


def janet_step(
    x,
    states,
    weights,
    *,
    activation="tanh",
    recurrent_activation="sigmoid",
    beta=1.0,
    x_masks=None,
    h_masks=None,
    **_,
):
    """An LSTM with nothing but a forget gate (van der Westhuizen & Lasenby 2018).

    Of ``s = x W_f + h U_f + b_f`` the gate that keeps is sigma(s), the one that lets in is 1 - sigma(s - beta).
    """
    h = states[0]
    W, U = (_columns(a, 2) for a in weights[:2])
    b = _columns(weights[2] if len(weights) > 2 else None, 2)
    xs, hs = _per_gate(x, x_masks, 2), _per_gate(h, h_masks, 2)
    s, zc = (_affine(xs[g], W[g], b[g]) + hs[g] @ U[g] for g in range(2))
    keep, enter = (
        activate(recurrent_activation, s),
        1 - activate(recurrent_activation, s - x.dtype.type(beta)),
    )
    h = keep * h + enter * activate(activation, zc)
    return h, [h]


def indrnn_step(x, states, weights, *, activation="relu", x_masks=None, **_):
    """Units that see their own past only: h = sigma(x W + u * h + b) with a vector u (Li et al. 2018)."""
    W, u, *b = weights
    (xd,) = _per_gate(x, x_masks, 1)
    h = activate(activation, _affine(xd, W, b[0] if b else None) + u * states[0])
    return h, [h]


def gru_step(
    x,
    states,
    weights,
    *,
    activation="tanh",
    recurrent_activation="sigmoid",
    reset_after=True,
    x_masks=None,
    h_masks=None,
    **_,
):
    h = states[0]
    W, U = (_columns(a, 3) for a in weights[:2])
    bias = weights[2] if len(weights) > 2 else None
    bx = _columns(bias[0] if reset_after and bias is not None else bias, 3)
    bh = _columns(bias[1] if reset_after and bias is not None else None, 3)
    xs, hs = _per_gate(x, x_masks, 3), _per_gate(h, h_masks, 3)
    z = activate(recurrent_activation, _affine(xs[0], W[0], bx[0]) + _affine(hs[0], U[0], bh[0]))
    r = activate(recurrent_activation, _affine(xs[1], W[1], bx[1]) + _affine(hs[1], U[1], bh[1]))
    recurrent = r * _affine(hs[2], U[2], bh[2]) if reset_after else (r * hs[2]) @ U[2]
    candidate = activate(activation, _affine(xs[2], W[2], bx[2]) + recurrent)
    h = z * h + (1 - z) * candidate
    return h, [h]


STEPS = {
    "simple_rnn": simple_rnn_step,
    "lstm": lstm_step,
    "gru": gru_step,
    "peephole_lstm": peephole_lstm_step,
    "janet": janet_step,
    "indrnn": indrnn_step,
}

# --------------------------------------------------------------------------------------------- layers


def zero_states(cell, n_batch, units, dtype=np.float64):
    return [np.zeros((n_batch, units), dtype) for _ in range(N_STATES[cell])]


def recurrent(
    cell,
    x,
    weights,
    *,
    initial_state=None,
    mask=None,
    go_backwards=False,
    return_sequences=False,
    zero_output_for_mask=False,
    **options,
):
    """Run a recurrent layer; returns ``(output, [states])``.

    A masked step carries every state over; its output is the output of the step processed before it (zeros where there
    was none), or zeros with ``zero_output_for_mask``. ``go_backwards`` processes, and returns, the steps last to first.
    ``options``: ``activation``, ``recurrent_activation``, ``reset_after``, ``beta``, and the inverted dropout masks
    ``x_masks (batch, features)`` and ``h_masks (batch, units)``, each one array for all gates or a list with one per gate.
    """
    n_batch, n_steps, _ = x.shape
    units = weights[1].shape[0]  # of IndRNN's vector too
    states = zero_states(cell, n_batch, units, x.dtype) if initial_state is None else list(initial_state)
    last = np.zeros((n_batch, units), x.dtype)
    outputs = []
    for t in reversed(range(n_steps)) if go_backwards else range(n_steps):
        new_output, new_states = STEPS[cell](x[:, t], states, weights, **options)
        valid = np.ones((n_batch, 1), bool) if mask is None else mask[:, t, None]
        last = np.where(valid, new_output, np.zeros_like(last) if zero_output_for_mask else last)
        states = [np.where(valid, new, old) for new, old in zip(new_states, states, strict=True)]
        outputs.append(last)
    return (np.stack(outputs, axis=1) if return_sequences else last), states


def merge(forward, backward, mode):
    if mode == "concat":
        return np.concatenate([forward, backward], axis=-1)
    if mode == "sum":
        return forward + backward
    if mode == "mul":
        return forward * backward
    if mode == "ave":
        return (forward + backward) / 2
    return [forward, backward]


def bidirectional(
    cell,
    x,
    forward_weights,
    backward_weights,
    *,
    merge_mode="concat",
    initial_state=None,
    return_sequences=False,
    mask=None,
    backward_cell=None,
    backward_options=None,
    **options,
):
    """Two layers over the same input, one first to last and one last to first; returns ``(merged, states)``.

    ``initial_state`` is the forward layer's states, then the backward layer's. With ``return_sequences`` masked steps
    give zeros and the backward outputs are turned round, so that step t of both halves belongs to step t of ``x``.
    """
    half = len(initial_state) // 2 if initial_state is not None else 0
    common = {"mask": mask, "return_sequences": return_sequences, "zero_output_for_mask": return_sequences}
    y, states = recurrent(
        cell, x, forward_weights, initial_state=initial_state[:half] if half else None, **common, **options
    )
    y_back, states_back = recurrent(
        backward_cell or cell,
        x,
        backward_weights,
        initial_state=initial_state[half:] if half else None,
        go_backwards=True,
        **common,
        **(options if backward_options is None else backward_options),
    )
    if return_sequences:
        y_back = y_back[:, ::-1]
    return merge(y, y_back, merge_mode), states + states_back


def stacked(layers, x, *, mask=None):
    """Run ``layers``, a list of ``(cell, weights, options)``; all but the last hand on their whole sequence."""
    states = []
    for k, (cell, weights, options) in enumerate(layers):
        options = {"return_sequences": True, **options} if k < len(layers) - 1 else options
        x, s = recurrent(cell, x, weights, mask=mask, **options)
        states.append(s)
    return x, states


def dense(x, weights, activation="linear"):
    return activate(activation, _affine(x, weights[0], weights[1] if len(weights) > 1 else None))


def random_weights(
    cell, n_inputs, units, rng, *, use_bias=True, reset_after=True, dtype=np.float64, scale=0.7
):
    """Weights with the layer's shapes, biases far from zero, small enough that no gate saturates."""
    g = N_GATES[cell]
    weights = [
        rng.normal(size=(n_inputs, g * units)) * scale / math.sqrt(n_inputs),
        rng.uniform(-1, 1, units) * scale
        if cell == "indrnn"
        else rng.normal(size=(units, g * units)) * scale / math.sqrt(units),
    ]
    if use_bias:
        weights.append(
            rng.normal(size=(2, g * units) if cell == "gru" and reset_after else (g * units,)) * 0.5
        )
    if cell == "peephole_lstm":
        weights.append(rng.normal(size=(3, units)) * 0.5)
    return [w.astype(dtype) for w in weights]


# --------------------------------------------------------------------------------------------- losses

PROBABILITY_FLOOR = 1e-7  # Keras's backend.epsilon()


def _clip_probabilities(p):
    return np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)


def _binary_crossentropy(t, p):
    p = _clip_probabilities(p)
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=-1)


def _categorical_crossentropy(t, p):
    return -(t * np.log(_clip_probabilities(p / p.sum(axis=-1, keepdims=True)))).sum(axis=-1)


def _sparse_categorical_crossentropy(t, p):
    t = np.asarray(t, dtype=int)
    if t.ndim == p.ndim:
        t = t[..., 0]
    return _categorical_crossentropy(np.eye(p.shape[-1])[t], p)


def _huber(t, p, delta=1.0):
    e = np.abs(p - t)
    return np.where(e <= delta, 0.5 * e * e, delta * e - 0.5 * delta * delta).mean(axis=-1)


LOSSES = {
    "mse": lambda t, p: ((t - p) ** 2).mean(axis=-1),
    "mae": lambda t, p: np.abs(t - p).mean(axis=-1),
    "huber": _huber,
    "binary_crossentropy": _binary_crossentropy,
    "categorical_crossentropy": _categorical_crossentropy,
    "sparse_categorical_crossentropy": _sparse_categorical_crossentropy,
}


def loss(name, y_true, y_pred, sample_weight=None, mask=None):
    """Mean over batch (and time) of the loss of each entry.

    Sample weights multiply the entries, and the mean still divides by how many there are; a mask leaves entries out and
    divides by how many are left.
    """
    values = LOSSES[name](y_true, y_pred)
    count = values.size
    if mask is not None:
        values = values * mask
        count = mask.sum() * (values.size / mask.size)
    if sample_weight is not None:
        w = np.asarray(sample_weight, dtype=values.dtype)
        values = values * w.reshape(w.shape + (1,) * (values.ndim - w.ndim))
    return values.sum() / count if count else 0.0


# --------------------------------------------------------------------------------------------- optimizers


def clip_gradients(grads, clipnorm=None, clipvalue=None, global_clipnorm=None):
    if clipnorm:
        return [g * clipnorm / max(np.sqrt((g * g).sum()), clipnorm) for g in grads]
    if global_clipnorm:
        norm = np.sqrt(sum((g * g).sum() for g in grads))
        return [g * global_clipnorm / max(norm, global_clipnorm) for g in grads]
    if clipvalue:
        return [np.clip(g, -clipvalue, clipvalue) for g in grads]
    return list(grads)


class SGD:
    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False):
        self.lr, self.momentum, self.nesterov = learning_rate, momentum, nesterov
        self.m = None

    def step(self, params, grads):
        if not self.momentum:
            return [p - self.lr * g for p, g in zip(params, grads, strict=True)]
        self.m = self.m or [np.zeros_like(p) for p in params]
        self.m = [self.momentum * m - self.lr * g for m, g in zip(self.m, grads, strict=True)]
        if self.nesterov:
            return [
                p + self.momentum * m - self.lr * g for p, m, g in zip(params, self.m, grads, strict=True)
            ]
        return [p + m for p, m in zip(params, self.m, strict=True)]


class RMSprop:
    def __init__(self, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False):
        self.lr, self.rho, self.momentum, self.epsilon, self.centered = (
            learning_rate,
            rho,
            momentum,
            epsilon,
            centered,
        )
        self.v = None

    def step(self, params, grads):
        if self.v is None:
            self.v = [np.zeros_like(p) for p in params]
            self.mean = [np.zeros_like(p) for p in params]
            self.m = [np.zeros_like(p) for p in params]
        out = []
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            self.v[k] = self.rho * self.v[k] + (1 - self.rho) * g * g
            variance = self.v[k]
            if self.centered:
                self.mean[k] = self.rho * self.mean[k] + (1 - self.rho) * g
                variance = variance - self.mean[k] ** 2
            increment = self.lr * g / np.sqrt(variance + self.epsilon)
            self.m[k] = self.momentum * self.m[k] + increment
            out.append(p - self.m[k])
        return out


class Adam:
    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False):
        self.lr, self.b1, self.b2, self.epsilon, self.amsgrad = (
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
        )
        self.t, self.m = 0, None

    def step(self, params, grads):
        if self.m is None:
            self.m, self.v, self.v_hat = ([np.zeros_like(p) for p in params] for _ in range(3))
        self.t += 1
        alpha = self.lr * math.sqrt(1 - self.b2**self.t) / (1 - self.b1**self.t)
        out = []
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            self.m[k] = self.m[k] + (1 - self.b1) * (g - self.m[k])
            self.v[k] = self.v[k] + (1 - self.b2) * (g * g - self.v[k])
            self.v_hat[k] = np.maximum(self.v_hat[k], self.v[k]) if self.amsgrad else self.v[k]
            out.append(p - alpha * self.m[k] / (np.sqrt(self.v_hat[k]) + self.epsilon))
        return out


class Adagrad:
    def __init__(self, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7):
        self.lr, self.initial, self.epsilon = learning_rate, initial_accumulator_value, epsilon
        self.acc = None

    def step(self, params, grads):
        self.acc = self.acc or [np.full_like(p, self.initial) for p in params]
        self.acc = [a + g * g for a, g in zip(self.acc, grads, strict=True)]
        return [
            p - self.lr * g / np.sqrt(a + self.epsilon)
            for p, g, a in zip(params, grads, self.acc, strict=True)
        ]


OPTIMIZERS = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adagrad": Adagrad}
