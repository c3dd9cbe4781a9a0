"""Tokenizer as a transformer of scikit-learn."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import fastrnn
from fastrnn import RNNClassifier
from fastrnn.text import Tokenizer

TEXTS = ["a good film", "", "a bad film!", "very good", "...", "very bad"] * 8
LABELS = np.array(["+", "-", "-", "+", "+", "-"] * 8)


def test_transform_gives_what_texts_to_sequences_gives():
    tokenizer = Tokenizer(num_words=6, oov_token="<unk>")
    got = tokenizer.fit_transform(TEXTS)
    by_hand = Tokenizer(num_words=6, oov_token="<unk>")
    by_hand.fit_on_texts(TEXTS)
    assert [row.tolist() for row in got] == by_hand.texts_to_sequences(TEXTS)
    assert {row.dtype for row in got} == {np.dtype(np.int64)}
    assert got.shape == (48,)
    assert got[1].shape == (0,)  # an empty document
    assert tokenizer.transform(["good nonsense"])[0].tolist()[1] == 1  # an unknown word
    assert tokenizer.inverse_transform(tokenizer.transform(["bad film"])) == ["bad film"]
    assert tokenizer.transform(["good"] * 2).shape == (2,)  # of equal lengths, and still no matrix


def test_fit_forgets_and_fit_on_texts_goes_on():
    tokenizer = Tokenizer().fit(["a b"]).fit(["c"])
    assert list(tokenizer.word_index) == ["c"]
    tokenizer.fit_on_texts(["d"])
    assert list(tokenizer.word_index) == ["c", "d"]
    with pytest.raises(TypeError, match=r"X\[1\] is None, which is no text.*'' for an empty document"):
        tokenizer.fit(["e", None])
    assert list(tokenizer.word_index) == ["c", "d"]


def pairs(text):
    return [text[i : i + 2] for i in range(len(text) - 1)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["ab", "cd"]),
        ({"char_level": True}, list("AB cd".lower())),
        ({"analyzer": pairs}, pairs("AB cd")),
    ],
)
def test_words_characters_and_an_analyzer_of_ones_own(options, expected):
    tokenizer = Tokenizer(**options).fit(["AB cd"])
    assert sorted(tokenizer.word_index) == sorted(set(expected))
    back = [tokenizer.index_word[i] for i in tokenizer.transform(["AB cd"])[0].tolist()]
    assert back == expected
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.transform(["AB cd"])[0].tolist() == tokenizer.transform(["AB cd"])[0].tolist()


def test_in_a_pipeline_and_a_grid_search():
    network = RNNClassifier(units=8, vocabulary_size=40, max_iter=15, tol=None, random_state=0)
    network.set_params(learning_rate_init=0.05, embedding_dim=8)
    pipeline = make_pipeline(Tokenizer(num_words=40, oov_token="<unk>"), network)
    grid = {"tokenizer__char_level": [False, True], "tokenizer__num_words": [3, 40]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(TEXTS, LABELS)
    # Two of six texts hold no word, and have labels that contradict each other: 5 of 6 is what words can tell.
    assert search.best_score_ > 0.8
    assert search.best_params_["tokenizer__num_words"] == 40
    assert search.predict(["good", "a bad word", ""]).tolist()[:2] == ["+", "-"]
    assert (cross_val_score(pipeline, np.array(TEXTS), LABELS, cv=2) > 0.7).all()


def test_pipeline_in_a_file(tmp_path):
    pipeline = make_pipeline(
        Tokenizer(num_words=40, oov_token="<unk>"),
        RNNClassifier(units=4, vocabulary_size=40, max_iter=2, tol=None, random_state=0),
    ).fit(TEXTS, LABELS)
    fastrnn.save(pipeline, tmp_path / "pipeline")
    again = fastrnn.load(tmp_path / "pipeline")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), pipeline.predict_proba(TEXTS))


def test_clone_has_the_arguments_and_no_words():
    made = clone(Tokenizer(num_words=9, lower=False, analyzer=pairs).fit(["x y"]))
    assert (made.num_words, made.lower, made.analyzer, made.word_index) == (9, False, pairs, {})
    with pytest.raises(NotFittedError, match="call fit"):
        made.transform(["x"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a text", r"X is one string; pass a list of strings"),
        (3, "X is 3: pass a list of strings"),
        (["a", np.nan], r"X\[1\] is nan, which is no text"),
        ([b"a"], r"X\[0\] is b'a', which is no text"),
        (np.array([["a", "b"]]), "several columns"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, message):
    for call in (Tokenizer().fit, Tokenizer().fit(["a"]).transform):
        with pytest.raises((TypeError, ValueError), match=message):
            call(texts)


def test_data_frames_are_refused_and_columns_taken():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    frame = pd.DataFrame({"text": ["a b", ""], "other": [1, 2]})
    with pytest.raises(ValueError, match="one column of texts"):
        Tokenizer().fit(frame)
    assert Tokenizer().fit_transform(frame["text"])[0].tolist() == [1, 2]


def test_arguments_are_checked_in_fit_too():
    with pytest.raises(ValueError, match="num_words=1 keeps no word"):
        Tokenizer().set_params(num_words=1).fit(["a"])
    with pytest.raises(TypeError, match="analyzer='word'"):
        Tokenizer(analyzer="word")
