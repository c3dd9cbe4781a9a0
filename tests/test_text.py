import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.text import Tokenizer, pad_sequences, text_to_word_sequence, text_windows
from tests import keras_oracle


def test_words_are_lowered_and_parted_at_filters():
    assert text_to_word_sequence("Don't stop,  NOW! (ok-ay)\tyes\n") == [
        "don't",
        "stop",
        "now",
        "ok",
        "ay",
        "yes",
    ]
    assert text_to_word_sequence("A,b", filters="", lower=False) == ["A,b"]


def test_tokenizer_orders_by_count_and_then_by_first_sight():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["b a b", "c a d c c"])
    assert tokenizer.word_index == {"c": 1, "b": 2, "a": 3, "d": 4}
    assert tokenizer.word_counts == {"b": 2, "a": 2, "c": 3, "d": 1}
    assert tokenizer.word_docs == {"b": 1, "a": 2, "c": 1, "d": 1}
    assert tokenizer.index_word[1] == "c"
    assert tokenizer.document_count == 2
    assert tokenizer.vocabulary_size == 5


def test_tokenizer_num_words_keeps_indices_below_it():
    tokenizer = Tokenizer(num_words=3)
    tokenizer.fit_on_texts(["c c c b b a"])
    assert tokenizer.texts_to_sequences(["a b c zzz"]) == [[2, 1]]
    assert tokenizer.vocabulary_size == 3


def test_tokenizer_oov_token_takes_index_1_and_stands_for_rare_words_too():
    tokenizer = Tokenizer(num_words=3, oov_token="<unk>")
    tokenizer.fit_on_texts(["c c c b b a"])
    assert tokenizer.word_index["<unk>"] == 1
    assert tokenizer.texts_to_sequences(["c b zzz"]) == [[2, 1, 1]]
    assert tokenizer.sequences_to_texts([[0, 2, 1]]) == ["c <unk>"]


def test_tokenizer_char_level_keeps_filtered_characters():
    tokenizer = Tokenizer(char_level=True)
    tokenizer.fit_on_texts(["Aa, b"])
    assert tokenizer.word_index == {"a": 1, ",": 2, " ": 3, "b": 4}
    assert tokenizer.sequences_to_texts(tokenizer.texts_to_sequences(["Ab!"])) == ["ab"]


def test_tokenizer_fit_twice_goes_on_counting():
    once, twice = Tokenizer(), Tokenizer()
    once.fit_on_texts(["a b", "b c c c"])
    twice.fit_on_texts(["a b"])
    twice.fit_on_texts(["b c c c"])
    assert once.word_index == twice.word_index
    assert once.document_count == twice.document_count


def test_tokenizer_takes_texts_that_are_split_already():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts([["New York", "is"], ["is"]])
    assert tokenizer.texts_to_sequences([["new york"]]) == [[2]]


@given(st.lists(st.text(alphabet="abc ,", max_size=12), min_size=1, max_size=6))
def test_tokenizer_round_trip_gives_the_words_back(texts):
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(texts)
    if not tokenizer.word_index:
        return
    words = [" ".join(text_to_word_sequence(text)) for text in texts]
    assert tokenizer.sequences_to_texts(tokenizer.texts_to_sequences(texts)) == words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Tokenizer(num_words=1), "num_words=1"),
        (lambda: Tokenizer(split=""), "split=''"),
        (lambda: Tokenizer().fit_on_texts("one string"), "list of strings"),
        (lambda: Tokenizer().texts_to_sequences(["a"]), "fit_on_texts first"),
        (lambda: pad_sequences([[1]], padding="left"), "padding='left'"),
        (lambda: pad_sequences([[1]], truncating="left"), "truncating='left'"),
        (lambda: pad_sequences([[1]], maxlen=0), "maxlen=0"),
        (lambda: pad_sequences([1, 2]), r"sequences\[0\] is 1"),
        (lambda: pad_sequences([[1], [2, 1.5]]), r"sequences\[1\] holds 1.5, which dtype='int32'"),
        (lambda: pad_sequences([[1]], value=-1.5), "value holds -1.5"),
        (lambda: pad_sequences([[1.0, np.nan]]), r"sequences\[0\] holds nan"),
        (
            lambda: pad_sequences([np.array([1, 300])], dtype="uint8"),
            r"sequences\[0\] holds 300, which dtype='uint8'",
        ),
        (lambda: pad_sequences([[-1]], dtype=np.uint16), r"sequences\[0\] holds -1"),
        (lambda: pad_sequences([[[1, 2]], [[1]]]), r"sequences\[1\] has steps of shape \(1,\)"),
        (lambda: text_windows("abc", 0), "width=0"),
        (lambda: text_windows("abc", 2, step=0), "step=0"),
        (lambda: text_windows(np.zeros((2, 3), int), 2), r"shape \(2, 3\)"),
        (lambda: text_windows([0.5, 1.5], 1), "dtype float64"),
    ],
)
def test_text_rejects_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("padding", "truncating", "expected"),
    [
        ("pre", "pre", [[0, 0, 1], [3, 4, 5], [0, 0, 0]]),
        ("post", "pre", [[1, 0, 0], [3, 4, 5], [0, 0, 0]]),
        ("pre", "post", [[0, 0, 1], [2, 3, 4], [0, 0, 0]]),
        ("post", "post", [[1, 0, 0], [2, 3, 4], [0, 0, 0]]),
    ],
)
def test_pad_sequences_sides(padding, truncating, expected):
    padded = pad_sequences([[1], [2, 3, 4, 5], []], maxlen=3, padding=padding, truncating=truncating)
    assert padded.dtype == np.int32
    np.testing.assert_array_equal(padded, expected)


def test_pad_sequences_of_vectors_with_a_value():
    padded = pad_sequences([np.ones((1, 2)), np.zeros((2, 2))], dtype="float32", value=-1.0)
    np.testing.assert_array_equal(padded[0], [[-1, -1], [1, 1]])
    assert padded.shape == (2, 2, 2)
    assert padded.dtype == np.float32


def test_pad_sequences_of_nothing():
    assert pad_sequences([], maxlen=4).shape == (0, 4)


@pytest.mark.peers
def test_pad_sequences_matches_keras():
    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(f"the extra 'peers' is not installed: {error}")
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 9, n).tolist() for n in (1, 5, 9, 3)]
    for padding in ("pre", "post"):
        for truncating in ("pre", "post"):
            for maxlen in (None, 4):
                kwargs = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "value": 7.0}
                np.testing.assert_array_equal(
                    pad_sequences(rows, **kwargs), keras.utils.pad_sequences(rows, **kwargs)
                )


def test_text_windows_overlap_and_drop_the_rest():
    assert text_windows("abcdef", 4) == ["abcd", "bcde", "cdef"]
    assert text_windows("abcdefg", 3, step=3) == ["abc", "def"]
    assert text_windows("ab", 3) == []


@pytest.mark.parametrize(("width", "step"), [(1, 1), (3, 1), (3, 2), (3, 5), (11, 1), (12, 1)])
def test_text_windows_of_tokens_are_the_tokens_of_windows(width, step):
    text = "to be or no"
    tokenizer = Tokenizer(char_level=True)
    tokenizer.fit_on_texts([text])
    windows = text_windows(tokenizer.texts_to_sequences([text])[0], width, step)
    assert windows.dtype == np.int32
    assert windows.shape[1] == width
    expected = text_windows(text, width, step)
    assert ["".join(map(tokenizer.index_word.get, row)) for row in windows.tolist()] == expected


def test_text_windows_of_an_array_are_views_that_cannot_be_written():
    tokens = np.arange(1000, dtype=np.uint8)
    windows = text_windows(tokens, 30)
    assert np.shares_memory(windows, tokens)
    assert windows.dtype == tokens.dtype
    with pytest.raises(ValueError, match="read-only"):
        windows[0, 0] = 1
