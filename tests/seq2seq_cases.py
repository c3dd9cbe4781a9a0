"""The encoder-decoders that tests make, and data for them."""

from fastrnn import EncoderDecoder, layers
from tests.layer_cases import LAYER_NAMES

F64 = {"dtype": "float64"}
N_IN, N_OUT, N_BATCH, N_READ, N_WRITE = 6, 5, 4, 7, 3
START = N_OUT


def recurrent(cell, units, **options):
    return getattr(layers, LAYER_NAMES[cell])(units, **F64, **options)


def make(cell="lstm", units=(4,), kind="tokens", **options):
    """A model that reads tokens and writes tokens, or reads vectors and writes one-hot tokens or numbers."""
    mask_zero = options.pop("mask_zero", False)
    reader = [layers.Embedding(N_IN, 3, mask_zero=mask_zero, **F64)] if kind == "tokens" else []
    writer = [layers.Embedding(N_OUT + 1, 3, **F64)] if kind == "tokens" else []
    encoder = [*reader, *(recurrent(cell, u) for u in units)]
    end = layers.Dense(N_OUT, activation=None if kind == "numbers" else "softmax", **F64)
    decoder = [*writer, *(recurrent(cell, u) for u in units), end]
    options = {"start": START if kind == "tokens" else None, "seed": 3, **options}
    model = EncoderDecoder(encoder, decoder, **options)
    loss = "mse" if kind == "numbers" else "sparse_categorical_crossentropy"
    model.compile("sgd", loss)
    return model


def data(kind, rng, n=N_BATCH):
    x = rng.integers(0, N_IN, (n, N_READ)) if kind == "tokens" else rng.normal(size=(n, N_READ, 6))
    y = rng.normal(size=(n, N_WRITE, N_OUT)) if kind == "numbers" else rng.integers(0, N_OUT, (n, N_WRITE))
    return x, y
