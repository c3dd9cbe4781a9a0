"""EncoderDecoder: parts, targets and calls that can't work are refused, and nothing is lost."""

import numpy as np
import pytest

from fastrnn import EncoderDecoder, Sequential, layers
from fastrnn.sequences import Ragged
from tests.seq2seq_cases import N_BATCH, N_OUT, data, make


def gru(**options):
    return layers.GRU(3, **options)


def dense(n=4, **options):
    return layers.Dense(n, **options)


BAD = {
    "no encoder": (lambda: ([], [gru()]), {}, "encoder has no layers"),
    "no decoder": (lambda: ([gru()], []), {}, "decoder has no layers"),
    "not a layer": (lambda: ([gru()], [gru(), 3]), {}, "decoder holds 3"),
    "input inside": (
        lambda: ([gru()], [layers.Input((None, 3)), gru()]),
        {},
        "Input only as the encoder's first",
    ),
    "encoder goes on": (
        lambda: ([gru(), dense()], [gru()]),
        {},
        "encoder ends with .*must end with a recurrent layer",
    ),
    "other sizes": (lambda: ([gru()], [layers.GRU(4)]), {}, r"sizes \[\[3\]\], decoder \[\[4\]\]"),
    "other cells": (lambda: ([gru()], [layers.LSTM(3)]), {}, r"decoder \[\[3, 3\]\]"),
    "other number": (lambda: ([gru(), gru()], [gru()]), {}, "they must be equal"),
    "stateful": (lambda: ([gru(stateful=True)], [gru()]), {}, "is stateful"),
    "two outputs": (
        lambda: ([layers.Bidirectional(gru(), merge_mode=None)], [gru()]),
        {},
        "merge_mode=None",
    ),
    "backwards": (lambda: ([gru()], [gru(go_backwards=True)]), {}, "reads backwards"),
    "bidirectional": (lambda: ([gru()], [layers.Bidirectional(gru())]), {}, "reads backwards"),
    "flatten": (lambda: ([gru()], [gru(), layers.Flatten()]), {}, "does not keep the time axis"),
    "masking": (lambda: ([gru()], [layers.Masking(), gru()]), {}, "masks steps"),
    "mask_zero": (
        lambda: ([gru()], [layers.Embedding(5, 3, mask_zero=True), gru(), dense()]),
        {"start": 4},
        "masks steps",
    ),
    "no start": (lambda: ([gru()], [layers.Embedding(5, 3), gru(), dense()]), {}, "start=None.*from 0 to 4"),
    "start too large": (lambda: ([gru()], [layers.Embedding(5, 3), gru(), dense()]), {"start": 5}, "start=5"),
    "start of one-hot": (
        lambda: ([gru()], [gru(), dense(activation="softmax")]),
        {"start": 4},
        "or None for zeros",
    ),
    "start of wrong size": (
        lambda: ([gru()], [gru(), dense()]),
        {"start": [0, 1]},
        "give a number, 4 numbers",
    ),
    "start nan": (lambda: ([gru()], [gru(), dense()]), {"start": np.nan}, "start=nan"),
    "start word": (lambda: ([gru()], [gru(), dense()]), {"start": "first"}, "'last' or None"),
    "last of tokens": (
        lambda: ([layers.Embedding(5, 3), gru()], [gru(), dense()]),
        {"start": "last"},
        "the encoder reads tokens",
    ),
    "last of too few": (
        lambda: ([layers.Input((None, 2)), gru()], [gru(), dense()]),
        {"start": "last"},
        "first 4 features are the outputs",
    ),
    "end of numbers": (lambda: ([gru()], [gru(), dense()]), {"end": 1}, "end=1 is a token"),
    "end too large": (
        lambda: ([gru()], [gru(), dense(activation="softmax")]),
        {"end": 4},
        "end=4.*0 to 3",
    ),
    "one class": (lambda: ([gru()], [layers.Embedding(5, 3), gru(), dense(1)]), {"start": 0}, "has 1 output"),
    "forcing": (lambda: ([gru()], [gru()]), {"teacher_forcing": 0.5}, "teacher_forcing=0.5"),
    "dtypes": (
        lambda: ([gru()], [gru(dtype="float64")]),
        {},
        "all layers of a model must have the same dtype",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_parts_that_do_not_fit_are_refused(case):
    parts, options, message = BAD[case]
    encoder, decoder = parts()
    names = [getattr(layer, "name", None) for layer in (*encoder, *decoder)]
    with pytest.raises((ValueError, TypeError), match=message):
        EncoderDecoder(encoder, decoder, **options)
    if case != "last of too few":  # found when the layers are built
        assert [getattr(layer, "name", None) for layer in (*encoder, *decoder)] == names


def test_layer_can_not_stand_twice():
    shared = gru()
    with pytest.raises(ValueError, match="is in the model already"):
        EncoderDecoder([shared], [shared, dense()])


BAD_TARGETS = {
    "one axis": (np.zeros(N_BATCH, int), r"targets \(4, time\) or one-hot \(4, time, 5\)"),
    "too few": (np.zeros((3, 2), int), r"y has shape \(3, 2\)"),
    "no steps": (np.zeros((N_BATCH, 0), int), r"y has shape \(4, 0\)"),
    "other classes": (np.zeros((N_BATCH, 2, 4)), r"y has shape \(4, 2, 4\)"),
    "too large": (np.full((N_BATCH, 2), N_OUT), "y holds token 5: the decoder's classes are 0 to 4"),
    "negative": (np.full((N_BATCH, 2), -1), "y holds token -1"),
    "fractions": (np.full((N_BATCH, 2), 0.5), "y holds fractions"),
    "text": (np.full((N_BATCH, 2), "a"), "give integer tokens"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_bad_targets_are_refused_and_weights_stay(case, rng):
    y, message = BAD_TARGETS[case]
    model = make("gru")
    before = model.params.copy()
    with pytest.raises((ValueError, TypeError), match=message):
        model.train_on_batch(data("tokens", rng)[0], y)
    np.testing.assert_array_equal(model.params, before)
    assert model.n_steps is None


def test_bad_calls_say_what_is_missing(rng):
    x, y = data("numbers", rng)
    model = make("gru", kind="numbers")
    with pytest.raises(ValueError, match=r"takes targets \(4, time, 5\)"):
        model.fit(x, y[..., :2], verbose=0)
    with pytest.raises(ValueError, match="n_steps is missing"):
        model.predict(x)
    with pytest.raises(ValueError, match="n_steps=0"):
        model.predict(x, n_steps=0)
    with pytest.raises(ValueError, match="outputs of this model are numbers"):
        model.predict(x, n_steps=2, tokens=True)
    with pytest.raises(ValueError, match="y is missing"):
        model.fit(x, verbose=0)
    ragged = Ragged.from_list([rng.normal(size=(2, N_OUT))] * N_BATCH)
    for batches in ((x, ragged), ([(x, ragged)],)):
        with pytest.raises(ValueError, match="y is ragged"):
            model.fit(*batches, verbose=0)
    with pytest.raises(ValueError, match="truncated_bptt_steps=2"):
        model.fit(x, y, truncated_bptt_steps=2, verbose=0)
    with pytest.raises(ValueError, match="mask has shape"):
        model.predict(x, n_steps=2, mask=np.ones((N_BATCH, 2), bool))
    assert model.fit(x, y, verbose=0).epoch == [0]


def test_sequential_still_refuses_states():
    with pytest.raises(ValueError, match="return_state=True"):
        Sequential([layers.GRU(3, return_state=True)])
