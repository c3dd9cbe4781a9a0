"""Embeddings from pretrained word vectors."""

import gzip

import numpy as np
import pytest

from fastrnn import Sequential, layers

WORDS = {"good": 1, "bad": 2, "rare": 3, "last": 4}
TEXT = "good 1 0.5 2\nother 9 9 9\nbad -1 -0.5 0\n"


@pytest.mark.parametrize("head", ["", "3 3\n"], ids=["glove", "word2vec"])
@pytest.mark.parametrize("packed", [False, True])
def test_embedding_from_vectors_has_the_rows_of_the_file(tmp_path, head, packed):
    path = tmp_path / ("vectors.txt.gz" if packed else "vectors.txt")
    data = (head + TEXT).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    layer = layers.Embedding.from_vectors(path, WORDS, mask_zero=True, embeddings_initializer="ones")
    (table,) = layer.get_weights()
    np.testing.assert_array_equal(table, [[0, 0, 0], [1, 0.5, 2], [-1, -0.5, 0], [1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(layer(np.array([[2, 0]])), [[[-1, -0.5, 0], [0, 0, 0]]])
    assert layer.mask_zero
    assert (layer.input_dim, layer.output_dim) == (5, 3)


def test_embedding_from_vectors_leaves_rarer_words_out(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(TEXT)
    assert layers.Embedding.from_vectors(path, WORDS, input_dim=2).get_weights()[0].shape == (2, 3)


@pytest.mark.parametrize("trainable", [False, True])
def test_embedding_from_vectors_is_trained_only_if_asked(tmp_path, trainable):
    path = tmp_path / "vectors.txt"
    path.write_text(TEXT)
    layer = layers.Embedding.from_vectors(path, WORDS, trainable=trainable)
    before = layer.get_weights()[0]
    model = Sequential([layer, layers.SimpleRNN(2), layers.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    model.fit(np.array([[1, 2], [3, 1]]), np.ones((2, 1)), verbose=0)
    assert np.array_equal(model.layers[0].get_weights()[0], before) != trainable


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("good 1 2\nbad 1\n", WORDS, "line 2: 1 numbers after the word, the lines before have 2"),
        ("good 1 x\n", WORDS, "line 1: could not convert"),
        ("else 1 2\n", WORDS, "has none of the 4 words"),
        (TEXT, {}, "give tokens by word"),
    ],
)
def test_embedding_from_vectors_says_what_is_wrong(tmp_path, text, words, message):
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        layers.Embedding.from_vectors(path, words)
