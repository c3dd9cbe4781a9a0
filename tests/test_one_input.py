"""Several arrays where a model has one input: the message says what to do instead."""

import numpy as np
import pytest

from fastrnn import EncoderDecoder, Sequential, layers

PAST, FUTURE = np.zeros((6, 5, 2)), np.zeros((6, 3, 1))
Y = np.zeros((6, 3, 1))
MESSAGE = r"x is a list of 2 arrays, but a model has one input: .*np\.concatenate.*RNNForecaster"


def encoder_decoder():
    made = EncoderDecoder([layers.LSTM(3)], [layers.LSTM(3), layers.Dense(1)], seed=0)
    made.compile("sgd", "mse")
    return made


def row_of_layers():
    made = Sequential([layers.LSTM(3, return_sequences=True), layers.Dense(1)], seed=0)
    made.compile("sgd", "mse")
    return made


CALLS = {
    "fit": lambda made, x: made.fit(x, Y, verbose=0),
    "fit validation": lambda made, x: made.fit(PAST[:, :3], Y, validation_data=(x, Y), verbose=0),
    "evaluate": lambda made, x: made.evaluate(x, Y),
    "predict": lambda made, x: made.predict(x),
}


INPUTS = {"list": [PAST, FUTURE], "tuple": (PAST, FUTURE), "like": [PAST, PAST]}
# A tuple in the tuple of validation data would be a batch.
CASES = [(x, call) for x in INPUTS for call in CALLS if (x, call) != ("tuple", "fit validation")]


@pytest.mark.parametrize("made", [encoder_decoder, row_of_layers])
@pytest.mark.parametrize(("name", "call"), CASES)
def test_two_arrays_side_by_side_are_refused(name, call, made):
    x, model = INPUTS[name], made()
    if isinstance(model, EncoderDecoder):
        model.n_steps = 3
    with pytest.raises(ValueError, match=MESSAGE):
        CALLS[call](model, x)
    assert model.optimizer.iterations == 0


def test_a_list_of_samples_is_one_input():
    """Arrays in a list are samples where there are as many targets."""
    row_of_layers().fit(list(PAST), np.zeros((6, 5, 1)), verbose=0)
