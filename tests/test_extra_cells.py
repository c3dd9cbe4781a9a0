"""Cells beyond Keras's, cells of the engine made outside the package, and what check_cell finds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from fastrnn import Sequential, layers
from fastrnn.engine.kernels.vecmath import tanh
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import fill, part, plane
from fastrnn.layers import IndRNNCell, JANETCell, KernelCell, PeepholeLSTMCell
from fastrnn.testing import check_cell
from tests.layer_cases import mask_of
from tests.test_rnn import Elman, MinimalCell, TwoStates

N_BATCH, N_STEPS, N_INPUTS, UNITS = 4, 6, 3, 5
MASK = mask_of("full", "holes", "leading", "none")


#: Layer and cell of each; test_extra_cells_oracle compares their numbers with naive versions.
MADE = {
    "peephole_lstm": (layers.PeepholeLSTM, PeepholeLSTMCell),
    "janet": (layers.JANET, JANETCell),
    "indrnn": (layers.IndRNN, IndRNNCell),
}


@pytest.mark.parametrize(
    "cell",
    [
        layers.SimpleRNNCell(3),
        layers.LSTMCell(3),
        layers.GRUCell(3),
        layers.GRUCell(3, reset_after=False, use_bias=False),
        layers.PeepholeLSTMCell(3),
        layers.PeepholeLSTMCell(3, activation="softsign", recurrent_activation="hard_silu", use_bias=False),
        layers.JANETCell(3),
        layers.JANETCell(3, activation="mish", beta=0.5),
        layers.IndRNNCell(3),
        layers.IndRNNCell(3, activation="tanh", use_bias=False),
        layers.StackedRNNCells([layers.LSTMCell(3, dtype="float64"), Elman(3, 2)], dtype="float64"),
        Elman(N_INPUTS, 3),
        MinimalCell(3),
        TwoStates(),
    ],
    ids=lambda c: getattr(c, "name", type(c).__name__),
)
def test_check_cell_passes(cell):
    check_cell(cell)


def test_check_cell_with_one_seed_checks_the_same_weights(monkeypatch):
    from fastrnn import testing

    seen = []
    monkeypatch.setattr(
        testing._Check, "run", lambda self, gradients: seen.append([*self.layer.get_weights(), self.x])
    )
    for seed in (0, 0, 1):
        check_cell(layers.JANETCell(3), seed=seed)
    assert all(map(np.array_equal, seen[0], seen[1]))
    assert not any(map(np.array_equal, seen[0], seen[2]))


def test_peepholes_at_zero_are_a_plain_lstm(rng):
    x = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS)).astype(np.float32)
    peephole, plain = layers.PeepholeLSTM(UNITS), layers.LSTM(UNITS)
    peephole.build(x.shape)
    plain.build(x.shape)
    plain.set_weights(peephole.get_weights()[:-1])
    np.testing.assert_allclose(peephole(x), plain(x), rtol=1e-5, atol=1e-6)
    assert (peephole.get_weights()[2][UNITS : 2 * UNITS] == 1).all()


def test_start_of_the_weights():
    janet = layers.JANET(200, t_max=100)
    janet.build((None, None, 2))
    forget = janet.get_weights()[2][:200]
    assert 0 <= forget.min() < 1.5 < 4 < forget.max() <= np.log(99)
    ind = layers.IndRNN(200)
    ind.build((None, None, 2))
    names = list(ind._weights)
    assert names == ["kernel", "recurrent_kernel", "bias"]
    assert 0 <= ind.get_weights()[1].min() < 0.1 < 0.9 < ind.get_weights()[1].max() <= 1


@pytest.mark.parametrize("name", list(MADE))
def test_layers_train_and_come_back_from_their_config(name, rng):
    x = rng.normal(size=(64, 8, N_INPUTS))
    y = x[:, :, 0].sum(axis=1, keepdims=True)
    make, make_cell = MADE[name]
    extra = (
        {"peephole_regularizer": "l2"} if name == "peephole_lstm" else {"recurrent_constraint": "max_norm"}
    )
    model = Sequential(
        [
            layers.Bidirectional(make(8, return_sequences=True, dropout=0.1, **extra)),
            layers.RNN([make_cell(8), make_cell(4)]),
            layers.Dense(1),
        ],
        seed=0,
    )
    model.compile("adam", "mse")
    loss = model.fit(x, y, epochs=15, verbose=0).history["loss"]
    assert loss[-1] < loss[0]
    again = Sequential.from_config(model.get_config())
    again.build((None, None, N_INPUTS))
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_recurrent_dropout_needs_a_recurrent_product():
    with pytest.raises(ValueError, match=r"recurrent_dropout=0.1: IndRNN has no recurrent product"):
        layers.IndRNN(3, recurrent_dropout=0.1)


# ------------------------------------------------------------------------------------ a cell file of one's own


class LeakyTestCell(NamedTuple):
    """``h = h_prev / 2 + tanh(z) / 2``; `wrong` makes its gradient so."""

    n_units: int
    wrong: int = 0

    def traits(self) -> Traits:
        return Traits(n_gates=1, n_saved=1)


@implements(step_forward, LeakyTestCell)
def forward(cell, phase, step):
    u = cell.n_units
    for r in range(step.z.shape[0]):
        zr, h_prev, h = part(step.z, r, 0, u), plane(step.previous, 0, r, u), plane(step.states, 0, r, u)
        for j in range(u):
            zr[j] = tanh(zr[j])
        if step.save:
            kept = part(step.saved, r, 0, u)
            for j in range(u):
                kept[j] = zr[j]
        for j in range(u):
            h[j] = (h_prev[j] + zr[j]) / 2
        if cell.wrong == 2:
            fill(h, h_prev[0] + step.z.shape[0])


@implements(step_backward, LeakyTestCell)
def backward(cell, phase, step):
    u = cell.n_units
    for r in range(step.dz.shape[0]):
        dh, out, kept = plane(step.ds, 0, r, u), part(step.dz, r, 0, u), part(step.saved, r, 0, u)
        for j in range(u):
            out[j] = dh[j] / 2 * (1 - kept[j] * kept[j])
        if cell.wrong == 1:
            fill(dh, 0)
        else:
            for j in range(u):
                dh[j] /= 2


def test_own_kernel_in_every_kind_of_use(rng):
    check_cell(LeakyTestCell(4))
    x = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS)).astype(np.float32)
    by_kernel = layers.RNN(LeakyTestCell(4), return_sequences=True)
    by_cell = layers.RNN(KernelCell(LeakyTestCell(4), kernel_regularizer="l2"), return_sequences=True)
    by_cell.build(x.shape)
    y = by_kernel(x)
    by_cell.set_weights(by_kernel.get_weights())
    np.testing.assert_array_equal(by_cell(x), y)

    both = layers.Bidirectional(layers.RNN(LeakyTestCell(4)))
    assert both(x).shape == (N_BATCH, 8)
    with pytest.raises(ValueError, match="give an instance"):
        KernelCell(LeakyTestCell)


def test_check_cell_says_what_is_wrong():
    with pytest.raises(
        AssertionError, match=r"LeakyTestCell.*the gradient of x is wrong, at .* backward gives"
    ):
        check_cell(LeakyTestCell(4, wrong=1))
    with pytest.raises(AssertionError, match="sequences one at a time differ from a batch of them"):
        check_cell(LeakyTestCell(4, wrong=2))
    with pytest.raises(AssertionError, match="is not a cell: .* has no call method"):
        check_cell(object())

    class Hidden(Elman):
        """Has data that are not in the states."""

        count = 0

        def call(self, x_t, states):
            self.count += 1
            out, new = super().call(x_t, states)
            return out + self.count, new

    with pytest.raises(AssertionError, match="kept from step to step that is not in the states"):
        check_cell(Hidden(N_INPUTS, 2))

    class Forgetful(Elman):
        def backward(self, d_out, d_states, x_t, states):
            dx, (dh,) = super().backward(d_out, d_states, x_t, states)
            return dx, [dh * 0]

    with pytest.raises(AssertionError, match="the gradient of x is wrong"):
        check_cell(Forgetful(N_INPUTS, 2))

    class InPlace(Elman):
        def call(self, x_t, states):
            out, new = super().call(x_t, states)
            states[0][...] = 0
            return out, new

    with pytest.raises(AssertionError):
        check_cell(InPlace(N_INPUTS, 2), gradients=False)
