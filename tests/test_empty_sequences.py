"""Empty sequences of a Ragged: the initial state is the answer, as for a sequence whose steps are all masked.

They are not judged, and how the batches fall makes no difference.
"""

import numpy as np
import pytest

from fastrnn import EncoderDecoder, Sequential, layers
from fastrnn.sequences import Ragged

LENGTHS = (3, 0, 2, 0, 0, 0)
CELLS = {
    "lstm": layers.LSTM,
    "rnn": lambda units, **options: layers.RNN(layers.GRUCell(units), **options),
    "bidirectional": lambda units, **options: layers.Bidirectional(layers.GRU(units, **options)),
    "stacked": lambda units, **options: layers.RNN(
        [layers.LSTMCell(units), layers.GRUCell(units)], **options
    ),
}


def model(cell, per_step):
    made = Sequential(
        [CELLS[cell](3, return_sequences=per_step), layers.Dense(1, bias_initializer="ones")], seed=0
    )
    made.compile("sgd", "mse", metrics=["mae"])
    return made


@pytest.fixture
def data(rng):
    return [rng.normal(size=(n, 2)).astype("float32") for n in LENGTHS]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("per_step", [False, True], ids=["sequence", "steps"])
@pytest.mark.parametrize("cell", CELLS)
def test_empty_sequences_are_predicted_from_initial_states(cell, per_step, size, data):
    made = model(cell, per_step)
    found = made.predict(Ragged.from_list(data), batch_size=size)
    padded = np.zeros((6, 3, 2), "float32")
    mask = np.zeros((6, 3), bool)
    for row, series in enumerate(data):
        padded[row, : len(series)], mask[row, : len(series)] = series, True
    expected = made.predict(padded, mask=mask)
    if per_step:  # padding is zero
        expected = np.where(mask[..., None], expected, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if not per_step:
        np.testing.assert_array_equal(found[1], made.layers[-1].get_weights()[1])


@pytest.mark.parametrize("per_step", [False, True], ids=["sequence", "steps"])
@pytest.mark.parametrize("cell", CELLS)
def test_empty_sequences_are_not_judged(cell, per_step, data):
    y = Ragged.from_list([np.ones((len(s), 1)) for s in data]) if per_step else np.ones((6, 1))
    kept = [i for i, n in enumerate(LENGTHS) if n]
    without = [data[i] for i in kept]
    y_without = Ragged.from_list([np.ones((len(s), 1)) for s in without]) if per_step else np.ones((2, 1))
    made = model(cell, per_step)
    expected = made.evaluate(Ragged.from_list(without), y_without)
    for size in (1, 2, 3, 6):
        found = made.evaluate(Ragged.from_list(data), y, batch_size=size)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("per_step", [False, True], ids=["sequence", "steps"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_of_empty_sequences_makes_no_update(cell, per_step, data):
    """Sequences 3 to 5 are a batch of their own, which leaves weights and moments as they are."""
    fits = []
    for n in (3, 6):
        x = Ragged.from_list(data[:n])
        y = Ragged.from_list([np.ones((len(s), 1)) for s in data[:n]]) if per_step else np.ones((n, 1))
        made = model(cell, per_step)
        made.compile("adam", "mse")
        made.fit(x, y, batch_size=3, shuffle=False, verbose=0, epochs=2)
        fits.append(made)
    np.testing.assert_array_equal(fits[0].params, fits[1].params)
    assert fits[0].optimizer.iterations == fits[1].optimizer.iterations


def test_encoder_decoder_writes_from_initial_states_after_an_empty_sequence(data):
    made = EncoderDecoder([layers.LSTM(3)], [layers.LSTM(3), layers.Dense(1)], seed=0)
    made.compile("sgd", "mse")
    x = Ragged.from_list(data)
    made.fit(x, np.ones((6, 2, 1)), batch_size=2, verbose=0)
    found = [made.predict(x, batch_size=size) for size in (1, 2, 6)]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-7)


def test_only_empty_sequences(data):
    x = Ragged(np.zeros((0, 2), "float32"), [0, 0, 0])
    for per_step, shape in ((False, (2, 1)), (True, (2, 0, 1))):
        assert model("lstm", per_step).predict(x).shape == shape
