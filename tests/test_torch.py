"""PyTorch's RNN, LSTM and GRU with the same weights: forward and gradients, multi-layer and bidirectional, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Sequential, layers, optimizers
from tests import naive
from tests.layer_cases import LAYER_NAMES, assert_all_close, gradients, make_layer, run

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

B, T, F, H = 3, 6, 4, 5
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}
# Which block of PyTorch's rows stands for each of our gates: LSTM i f g o is our i f c o, GRU r z n our z r h.
GATES = {"simple_rnn": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}
KINDS = [
    ("simple_rnn", torch.nn.RNN, {}),
    ("simple_rnn", torch.nn.RNN, {"nonlinearity": "relu"}),
    ("lstm", torch.nn.LSTM, {}),
    ("gru", torch.nn.GRU, {}),
]
IDS = ["rnn", "rnn-relu", "lstm", "gru"]


def rearranged(cell, w_ih, w_hh, b_ih=None, b_hh=None):
    """PyTorch's arrays as ours: gates in our order, transposed; biases summed, except GRU's, which are kept apart."""

    def blocks(a):
        parts = np.split(a, len(GATES[cell]))
        return np.concatenate([parts[g] for g in GATES[cell]])

    weights = [blocks(w_ih).T.copy(), blocks(w_hh).T.copy()]
    if b_ih is not None:
        b_ih, b_hh = blocks(b_ih), blocks(b_hh)
        weights.append(np.stack([b_ih, b_hh]) if cell == "gru" else b_ih + b_hh)
    return weights


def parameters(module, layer, reverse, of=lambda p: p.detach()):
    names = [
        f"{n}_l{layer}{'_reverse' if reverse else ''}"
        for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    return [of(getattr(module, n)).numpy() for n in names if hasattr(module, n)]


def options_of(cell, settings):
    return {"activation": "relu"} if settings.get("nonlinearity") == "relu" else {}


def flat(states):
    return list(states) if isinstance(states, tuple) else [states]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize(("cell", "factory", "settings"), KINDS, ids=IDS)
def test_matches_torch(cell, factory, settings, bidirectional, n_layers, bias):
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    module = factory(
        F,
        H,
        n_layers,
        bias=bias,
        batch_first=True,
        bidirectional=bidirectional,
        dtype=torch.float64,
        **settings,
    )
    directions = 2 if bidirectional else 1
    x = rng.normal(size=(B, T, F))
    initial = [rng.normal(size=(n_layers * directions, B, H)) for _ in range(naive.N_STATES[cell])]
    tx = torch.tensor(x, requires_grad=True)
    t_initial = [torch.tensor(s) for s in initial]
    ty, t_states = module(tx, tuple(t_initial) if cell == "lstm" else t_initial[0])
    dy = rng.normal(size=ty.shape)
    d_last = [rng.normal(size=s.shape) for s in flat(t_states)]
    scalar = (ty * torch.tensor(dy)).sum() + sum(
        (s * torch.tensor(d)).sum() for s, d in zip(flat(t_states), d_last, strict=True)
    )
    scalar.backward()

    # Ours: one layer a direction and level, joined by hand, so that no wrapper stands between.
    y, passes = x, []
    for level in range(n_layers):
        halves = []
        for reverse in range(directions):
            k = level * directions + reverse
            layer = make_layer(
                cell,
                H,
                rearranged(cell, *parameters(module, level, reverse)),
                y.shape[2],
                return_sequences=True,
                return_state=True,
                go_backwards=bool(reverse),
                use_bias=bias,
                **options_of(cell, settings),
            )
            results, cache = run(layer, y, initial_state=[s[k] for s in initial], training=True)
            assert_all_close(results[1:], [s[k].detach().numpy() for s in flat(t_states)], **TOLERANCE)
            halves.append(results[0][:, ::-1] if reverse else results[0])
            passes.append((level, reverse, k, layer, cache))
        y = np.concatenate(halves, axis=2)
    np.testing.assert_allclose(y, ty.detach().numpy(), **TOLERANCE)

    d_output = dy
    for level in reversed(range(n_layers)):
        d_input = 0
        for _, reverse, k, layer, cache in [p for p in passes if p[0] == level]:
            half = d_output[:, :, reverse * H : (reverse + 1) * H]
            dx, grads = gradients(layer, [half[:, ::-1] if reverse else half, *(d[k] for d in d_last)], cache)
            d_input = d_input + dx
            theirs = parameters(module, level, reverse, of=lambda p: p.grad)
            if bias and cell != "gru":
                theirs[3] = np.zeros_like(theirs[3])  # both biases of PyTorch get the gradient of our one
            assert_all_close(grads, rearranged(cell, *theirs), **TOLERANCE)
        d_output = d_input
    np.testing.assert_allclose(d_output, tx.grad.numpy(), **TOLERANCE)


@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize(("cell", "factory", "settings"), KINDS, ids=IDS)
def test_model_trains_as_torch_does(cell, factory, settings, bidirectional, n_layers, ragged):
    """A Sequential of (Bidirectional) layers and a Dense one: loss, gradients of all weights, and three SGD updates."""
    torch.manual_seed(11)
    rng = np.random.default_rng(11)
    directions = 2 if bidirectional else 1
    module = factory(
        F, H, n_layers, batch_first=True, bidirectional=bidirectional, dtype=torch.float64, **settings
    )
    head = torch.nn.Linear(directions * H, 2, dtype=torch.float64)
    x, y = rng.normal(size=(B, T, F)), rng.normal(size=(B, T, 2))
    lengths = np.array([T, 2, 4]) if ragged else np.full(B, T)
    mask = np.arange(T) < lengths[:, None]
    made = []
    for _ in range(n_layers):
        layer = getattr(layers, LAYER_NAMES[cell])(
            H, return_sequences=True, dtype="float64", **options_of(cell, settings)
        )
        made.append(layers.Bidirectional(layer) if bidirectional else layer)
    model = Sequential([*made, layers.Dense(2, dtype="float64")])
    model.build((None, None, F))
    model.compile(optimizers.SGD(0.1), "mse")

    def ours_of(of):
        """PyTorch's parameters, or their gradients, as a list like ours."""
        arrays = []
        for level in range(n_layers):
            for reverse in range(directions):
                theirs = parameters(module, level, reverse, of)
                if of is gradient and cell != "gru":
                    theirs[3] = np.zeros_like(
                        theirs[3]
                    )  # our one bias gets the gradient that each of theirs gets
                arrays += rearranged(cell, *theirs)
        return [*arrays, of(head.weight).numpy().T.copy(), of(head.bias).numpy().copy()]

    def value(p):
        return p.detach()

    def gradient(p):
        return p.grad

    def loss_of():
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.tensor(x), lengths, batch_first=True, enforce_sorted=False
        )
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
        error = (head(out) - torch.tensor(y)) ** 2
        return (error.mean(dim=2) * torch.tensor(mask)).sum() / mask.sum()

    model.set_weights(ours_of(value))
    for _ in range(3):
        for p in [*module.parameters(), *head.parameters()]:
            p.grad = None
        loss = loss_of()
        loss.backward()
        assert model.compute_gradients(x, y, mask=mask) == pytest.approx(loss.item(), rel=1e-12)
        found = np.split(model.grads, np.cumsum([w.size for w in model.get_weights()])[:-1])
        for actual, expected in zip(found, ours_of(gradient), strict=True):
            np.testing.assert_allclose(actual, expected.ravel(), **TOLERANCE)
        # Our one bias stands for the sum of PyTorch's two, which both move: half the rate keeps the sums equal.
        with torch.no_grad():
            for name, p in [*module.named_parameters(), *head.named_parameters()]:
                both = name.startswith("bias_") and cell != "gru"
                p -= (0.05 if both else 0.1) * p.grad
        assert model.train_on_batch(x, y, mask=mask) == pytest.approx(loss.item(), rel=1e-12)
        assert_all_close(model.get_weights(), ours_of(value), **TOLERANCE)


@pytest.mark.parametrize(("cell", "factory", "settings"), KINDS, ids=IDS)
def test_packed_sequences_match_torch(cell, factory, settings):
    """PyTorch's packed sequences are our right-padded mask."""
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    module = factory(F, H, batch_first=True, dtype=torch.float64, **settings)
    lengths = [6, 1, 4]
    x = rng.normal(size=(B, T, F))
    tx = torch.tensor(x, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(tx, lengths, batch_first=True, enforce_sorted=False)
    ty, t_states = module(packed)
    ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, batch_first=True)
    dy = rng.normal(size=ty.shape)
    (ty * torch.tensor(dy)).sum().backward()
    layer = make_layer(
        cell,
        H,
        rearranged(cell, *parameters(module, 0, 0)),
        F,
        return_sequences=True,
        return_state=True,
        zero_output_for_mask=True,
        **options_of(cell, settings),
    )
    mask = np.arange(T) < np.array(lengths)[:, None]
    results, cache = run(layer, x, mask=mask, training=True)
    assert_all_close(
        results, [ty.detach().numpy(), *(s[0].detach().numpy() for s in flat(t_states))], **TOLERANCE
    )
    dx, _ = gradients(layer, [dy, *(np.zeros_like(r) for r in results[1:])], cache)
    np.testing.assert_allclose(dx, tx.grad.numpy(), **TOLERANCE)


@pytest.mark.parametrize(("cell", "factory", "settings"), KINDS, ids=IDS)
def test_float32_at_a_real_size_matches_torch(cell, factory, settings):
    torch.manual_seed(7)
    module = factory(40, 96, batch_first=True, **settings)
    x = np.random.default_rng(7).normal(size=(50, 30, 40)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.tensor(x))[0].numpy()
    layer = make_layer(
        cell,
        96,
        rearranged(cell, *parameters(module, 0, 0)),
        40,
        np.float32,
        return_sequences=True,
        **options_of(cell, settings),
    )
    np.testing.assert_allclose(run(layer, x)[0][0], expected, rtol=1e-4, atol=1e-5)


def test_names_cover_every_layer():
    assert set(GATES) == set(LAYER_NAMES)
