"""Files of models: what is saved comes back, bit for bit, and what is damaged is refused."""

import ast
import json
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastrnn
from fastrnn import (
    EncoderDecoder,
    ModelFileError,
    RNNClassifier,
    RNNRegressor,
    Sequential,
    StandardScaler3D,
    callbacks,
    layers,
    losses,
    optimizers,
)
from fastrnn.cells.janet import JANET
from fastrnn.saving import container
from fastrnn.text import Tokenizer
from tests.saved_files import GOLDEN, data, parts, rewrite, rich_model, small_model


def saved(value, tmp_path, **options):
    fastrnn.save(value, tmp_path / "file.fastrnn")
    return fastrnn.load(tmp_path / "file.fastrnn", **options)


# -- what comes back


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_resumed_training_equals_uninterrupted_training_bitwise(optimizer, tmp_path):
    x, y = data()
    whole, first = rich_model(optimizer=optimizer), rich_model(optimizer=optimizer)
    history = whole.fit(x, y, epochs=5, batch_size=8, verbose=0)
    path = tmp_path / "{epoch}.fastrnn"
    first.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=[callbacks.ModelCheckpoint(path)])
    resumed = fastrnn.load(tmp_path / "2.fastrnn")
    assert resumed.history.epoch == [0, 1]
    more = resumed.fit(x, y, epochs=5, initial_epoch=2, batch_size=8, verbose=0)
    np.testing.assert_array_equal(resumed.params, whole.params)
    assert more.history["loss"] == history.history["loss"][2:]
    assert resumed.optimizer.iterations == whole.optimizer.iterations


def test_embedding_with_lazy_updates_resumes_bitwise(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 50, (40, 5)), rng.integers(0, 2, 40)

    def make():
        model = Sequential(
            [layers.Embedding(50, 4, mask_zero=True), layers.LSTM(3), layers.Dense(1, activation="sigmoid")],
            seed=1,
        )
        model.compile(optimizers.RMSprop(0.01), "binary_crossentropy")
        return model

    whole, first = make(), make()
    whole.fit(x, y, epochs=4, batch_size=4, verbose=0)
    first.fit(x, y, epochs=2, batch_size=4, verbose=0)
    assert first.optimizer.get_state()["last"]  # rows that were left out so far are caught up later
    resumed = saved(first, tmp_path)
    resumed.fit(x, y, epochs=4, initial_epoch=2, batch_size=4, verbose=0)
    np.testing.assert_array_equal(resumed.params, whole.params)


def test_stateful_layers_keep_their_states(tmp_path):
    model = Sequential(
        [
            layers.Input((None, 2), batch_size=3),
            layers.LSTM(4, stateful=True, return_sequences=True),
            layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)], stateful=True),
        ],
        seed=0,
    )
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    model(x)
    again = saved(model, tmp_path)
    np.testing.assert_array_equal(again(x), model(x))


def test_encoder_decoder_comes_back(tmp_path):
    x = np.random.default_rng(0).integers(0, 10, (16, 5))
    model = EncoderDecoder(
        [layers.Embedding(10, 4), layers.GRU(6)],
        [layers.Embedding(11, 4), layers.GRU(6), layers.Dense(10, activation="softmax")],
        start=10,
        end=0,
        seed=0,
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, x[:, ::-1], verbose=0)
    again = saved(model, tmp_path)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    model.fit(x, x[:, ::-1], verbose=0)
    again.fit(x, x[:, ::-1], verbose=0)
    np.testing.assert_array_equal(again.params, model.params)


def test_layer_that_is_not_trained_stays_so(tmp_path):
    model = rich_model()
    model.layers[0].backward_layer.trainable = False
    model.layers[3].trainable = False
    model.plan_updates()
    again = saved(model, tmp_path)
    assert [layer.trained_weights() for layer in again.layers] == [
        layer.trained_weights() for layer in model.layers
    ]
    assert again.plan.variables == model.plan.variables


def test_model_without_weights_comes_back(tmp_path):
    model = Sequential([layers.GRU(3), layers.Dense(1)], seed=5)
    again = saved(model, tmp_path)
    assert not again.built
    x = data()[0]
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize(
    "cell", ["lstm", "gru", "simple_rnn", "peephole_lstm", "janet", "indrnn", JANET(1, beta=0.5), JANET]
)
def test_classifier_comes_back_and_goes_on(cell, tmp_path):
    x, y = data()
    labels = np.array(["no", "yes", "perhaps"])[y]
    model = RNNClassifier(cell=cell, units=(3, 2), max_iter=2, tol=None, random_state=0, alpha=0.01).fit(
        x, labels
    )
    model.save(tmp_path / "c")
    again = fastrnn.load(tmp_path / "c")
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    for one in (model, again):
        one.partial_fit(x, labels)
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_optimizer_given_as_object_goes_on(tmp_path):
    """Its identity tells partial_fit that nothing was changed."""
    x, y = data()
    model = RNNRegressor(
        units=2, solver=optimizers.Adam(0.01), random_state=np.random.RandomState(1), max_iter=2, tol=None
    )
    model.fit(x, y)
    again = saved(model, tmp_path)
    for one in (model, again):
        one.partial_fit(x, y)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_stateful_regressor_keeps_states(tmp_path):
    x, y = data()
    model = RNNRegressor(units=3, stateful=True, return_sequences=True, random_state=0)
    steps = np.repeat(y[:, None], x.shape[1], axis=1).astype(float)
    model.partial_fit(x, steps)
    again = saved(model, tmp_path)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_pipelines_scalers_and_tokenizers_come_back(tmp_path):
    x, y = data()
    pipe = make_pipeline(StandardScaler3D(), RNNRegressor(units=2, max_iter=1, tol=None, random_state=0)).fit(
        x, y
    )
    tokenizer = Tokenizer(num_words=4, oov_token="?")
    tokenizer.fit_on_texts(["ein Ähre 中", "ein Wort \ud800"])
    flat = StandardScaler().fit(x[:, 0])
    again = saved({"pipe": pipe, "words": tokenizer, "flat": flat}, tmp_path)
    np.testing.assert_array_equal(again["pipe"].predict(x), pipe.predict(x))
    assert vars(again["words"]) == vars(tokenizer)
    np.testing.assert_array_equal(again["flat"].transform(x[:, 0]), flat.transform(x[:, 0]))


VALUES = {
    "numbers": [
        1,
        -(2**70),
        0.1,
        float("inf"),
        float("-inf"),
        True,
        None,
        np.float32(0.1),
        np.int8(-3),
        np.bool_(True),
    ],
    "tables": {"a": (1, (2, "$")), 3: [], "$": "x"},
    "arrays": [np.arange(6).reshape(2, 3), np.array(1.5), np.zeros((0, 3), "f2"), np.array([True, False])],
    "strings": [np.array(["a", "bcd"]), np.array([["x", 1], [None, 2.5]], object)],
    "byte_order": np.arange(3, dtype=">i4"),
    "order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "times": np.array(["2020-01-01", "NaT"], "datetime64[ns]"),
    "dtype": np.dtype("float32"),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_with_their_types(name, tmp_path):
    value = VALUES[name]
    again = saved({"v": value}, tmp_path)["v"]

    def same(a, b):
        assert type(a) is type(b)
        if isinstance(a, (list, tuple)):
            assert len(a) == len(b)
            for p, q in zip(a, b, strict=True):
                same(p, q)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype.newbyteorder("=")
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b

    same(again, value)


@pytest.mark.parametrize("generator", [np.random.SFC64, np.random.PCG64, np.random.MT19937])
def test_random_generators_go_on(generator, tmp_path):
    for one in (np.random.Generator(generator(3)), np.random.RandomState(3)):
        one.normal(size=3)
        again = saved({"g": one}, tmp_path)["g"]
        np.testing.assert_array_equal(again.normal(size=5), one.normal(size=5))


@pytest.mark.parametrize(
    "value",
    [lambda: 0, {1, 2}, object(), np.zeros(2, complex), np.zeros(1, "S3"), range(3)],
    ids=["function", "set", "object", "complex", "bytes", "range"],
)
def test_what_a_file_can_not_hold_is_refused_before_writing(value, tmp_path):
    path = tmp_path / "file"
    fastrnn.save({"a": 1}, path)
    with pytest.raises(TypeError, match="object/here"):
        fastrnn.save({"here": value}, path)
    assert fastrnn.load(path) == {"a": 1}


# -- objects of the user's


class Halved(layers.Layer):
    """Half the input."""

    def __init__(self, factor=0.5, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def forward(self, x, mask=None, training=False):
        return x * x.dtype.type(self.factor), None

    def backward(self, dy, cache, need_dx=True):
        return dy * dy.dtype.type(self.factor)


class Cubed(losses.Loss):
    def values(self, y_true, y_pred):
        return (np.abs(y_pred - y_true) ** 3).mean(-1)

    def gradient(self, y_true, y_pred):
        return 3 * (y_pred - y_true) * np.abs(y_pred - y_true) / y_pred.shape[-1]


def slow_rate(step):
    return 0.01 / (1 + step)


def share_above(y_true, y_pred):
    return (y_pred > 0).mean(-1)


CUSTOM = {"Halved": Halved, "Cubed": Cubed, "slow_rate": slow_rate, "share_above": share_above}


def custom_model():
    model = Sequential([layers.Input((None, 3)), Halved(0.25), layers.LSTM(2), layers.Dense(1)], seed=0)
    model.compile(optimizers.SGD(slow_rate), Cubed(), metrics=[share_above])
    return model


def test_own_classes_and_functions_are_found_by_name(tmp_path):
    x, y = data()
    y = y[:, None]
    model = custom_model()
    model.fit(x, y, epochs=1, verbose=0)
    again = saved(model, tmp_path, custom_objects=CUSTOM)
    for one in (model, again):
        one.fit(x, y, epochs=2, initial_epoch=1, verbose=0)
    np.testing.assert_array_equal(again.params, model.params)
    assert again.layers[0].factor == 0.25
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


@pytest.mark.parametrize("missing", CUSTOM)
def test_own_classes_that_are_not_passed_are_named(missing, tmp_path):
    custom_model().save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=f"custom_objects=.*{missing}"):
        fastrnn.load(tmp_path / "m", {k: v for k, v in CUSTOM.items() if k != missing})


def test_own_class_of_a_known_name_is_not_mistaken_for_the_library_s(tmp_path):
    LSTM = type("LSTM", (Halved,), {"__module__": __name__})
    model = Sequential([layers.Input((None, 3)), LSTM(0.125)])
    model.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match="LSTM"):
        fastrnn.load(tmp_path / "m")
    assert fastrnn.load(tmp_path / "m", {"LSTM": LSTM}).layers[0].factor == 0.125


# -- weights alone


def test_weights_come_back_from_both_kinds_of_file(tmp_path):
    model, other = small_model(0), small_model(1)
    model.save_weights(tmp_path / "w")
    model.save(tmp_path / "m")
    for name in ("w", "m"):
        other = small_model(1)
        other.load_weights(tmp_path / name)
        np.testing.assert_array_equal(other.params, model.params)
    with pytest.raises(ModelFileError, match="save_weights"):
        fastrnn.load(tmp_path / "w")


def test_weights_of_another_model_change_nothing(tmp_path):
    small_model(units=3).save_weights(tmp_path / "w")
    model = small_model()
    before = model.params.copy()
    with pytest.raises(ModelFileError, match="another model"):
        model.load_weights(tmp_path / "w")
    fastrnn.save({"a": 1}, tmp_path / "d")
    with pytest.raises(ModelFileError, match="no weights"):
        model.load_weights(tmp_path / "d")
    np.testing.assert_array_equal(model.params, before)


# -- damaged and foreign files


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    path = tmp_path / "m"
    small_model().save(path)
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(len(raw)):
        flipped = bytearray(raw)
        flipped[i] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError):
            fastrnn.load(path)
    for n in [*range(64), *range(64, len(raw), 37)]:
        path.write_bytes(raw[:n])
        with pytest.raises(ModelFileError):
            fastrnn.load(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(ModelFileError):
        fastrnn.load(path)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


FOREIGN = {
    "pickle": (lambda: pickle.dumps(Bomb()), "pickle"),
    "zip": (lambda: b"PK\x03\x04" + b"\0" * 40, "npz"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "from_keras"),
    "onnx": (lambda: b"\x08\x08" + b"\0" * 40, "from_onnx"),
    "text": (lambda: b"hello, this is a text", "another program"),
    "empty": (lambda: b"", "empty"),
    "huge_header": (lambda: struct.pack("<Q", 2**62) + b"{}", "truncated"),
    "deep": (lambda: struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_994 + b"}", "damaged"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_named_for_what_they_are(name, tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    content, match = FOREIGN[name]
    path = tmp_path / "f"
    path.write_bytes(content())
    model = small_model()
    for read in (fastrnn.load, fastrnn.load_model, model.load_weights):
        with pytest.raises(ModelFileError, match=match) as caught:
            read(path)
        assert str(path) in str(caught.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("where", ["missing", "folder", "in_missing_folder"])
def test_paths_that_are_no_files_are_refused(where, tmp_path):
    path = {"missing": tmp_path / "no", "folder": tmp_path, "in_missing_folder": tmp_path / "no" / "no"}[
        where
    ]
    with pytest.raises(ModelFileError, match=str(path)):
        fastrnn.load(path)
    if where != "missing":
        with pytest.raises(ModelFileError, match=str(path)):
            fastrnn.save({}, path)
    assert list(tmp_path.iterdir()) == []
    for wrong in (3, None, b"x", ""):
        with pytest.raises((TypeError, ModelFileError), match="path"):
            fastrnn.load(wrong)


def test_file_of_a_later_version_says_so(tmp_path):
    small_model().save(tmp_path / "m")
    rewrite(tmp_path / "m", change_metadata=lambda m, _: m.update(format_version="2", fastrnn_version="9.1"))
    with pytest.raises(ModelFileError, match=r"fastrnn 9\.1 .*update"):
        fastrnn.load(tmp_path / "m")


def test_load_model_refuses_what_is_no_model(tmp_path):
    fastrnn.save({"a": 1}, tmp_path / "m")
    with pytest.raises(ModelFileError, match="contains dict, not a model"):
        fastrnn.load_model(tmp_path / "m")


def at(value, *keys):
    for key in keys:
        value = value[key]
    return value


# Malicious files with a right checksum: huge memory, other sizes, states that kernels would use without checks.
HARM = {
    "units": lambda c: at(c, "value", "config", "layers", 1, "config").update(units=10**9),
    "input": lambda c: at(c, "value", "config", "layers", 0, "config")["batch_shape"].update(
        items=[None, None, 10**12]
    ),
    "class": lambda c: at(c, "value", "config", "layers", 1).update(class_name="os.system"),
    "model": lambda c: c["value"].update({"class": "Popen"}),
    "kind": lambda c: c["value"].update({"$": "code"}),
    "weights": lambda c: c["value"]["weights"].reverse(),
    "fewer_weights": lambda c: c["value"]["weights"].pop(),
    "layers": lambda c: c["value"]["layers"].pop("0"),
    "generator": lambda c: at(c, "value", "generator", "state").update(bit_generator="os"),
    "size": lambda c: at(c, "value", "compile", "optimizer", "state").update(size=10**9),
    "slots": lambda c: at(c, "value", "compile", "optimizer").update(class_name="Adam"),
    "iterations": lambda c: at(c, "value", "compile", "optimizer", "state").update(iterations=-1),
    "last": lambda c: at(c, "value", "compile", "optimizer", "state").update(
        last={"$": "dict", "items": [[0, c["value"]["weights"][0]]]}
    ),
    "no_value": lambda c: c.pop("value"),
    "unused": lambda c: c.update(value=1),
}


@pytest.mark.parametrize("name", HARM)
def test_content_that_asks_for_harm_is_refused(name, tmp_path):
    model = small_model()
    model.fit(np.ones((4, 3, 1)), np.ones(4), verbose=0)
    model.save(tmp_path / "m")
    rewrite(tmp_path / "m", HARM[name])
    with pytest.raises(ModelFileError, match="m'"):
        fastrnn.load(tmp_path / "m")


@pytest.mark.parametrize("item", [[], {}, 1.5, "a", {"$": "tuple", "items": []}], ids=repr)
def test_memory_is_bounded_by_the_size_of_the_file(item, tmp_path):
    """Text that describes many small objects needs the most memory for its bytes."""
    path = tmp_path / "m"
    fastrnn.save({"a": 1}, path)
    rewrite(path, lambda c: c["value"].update(a=[item] * 100_000))
    tracemalloc.start()
    try:
        fastrnn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 60 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_layers_larger_than_their_file_take_no_memory(tmp_path):
    model = small_model()
    model.save(tmp_path / "m")
    rewrite(tmp_path / "m", HARM["units"])
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="more weights than the file has values"):
            fastrnn.load(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_position_of_a_random_generator_outside_its_state_is_refused(tmp_path):
    fastrnn.save({"g": np.random.RandomState(0)}, tmp_path / "m")
    rewrite(tmp_path / "m", lambda c: at(c, "value", "g", "state", "state").update(pos=100_000))
    with pytest.raises(ModelFileError, match="position"):
        fastrnn.load(tmp_path / "m")


TENSORS = {
    "shape": lambda e: e.update(shape=[10**12, 10**12]),
    "negative": lambda e: e.update(shape=[-1, -6]),
    "dtype": lambda e: e.update(dtype="F128"),
    "offset": lambda e: e.update(data_offsets=[4, e["data_offsets"][1]]),
    "beyond": lambda e: e.update(data_offsets=[e["data_offsets"][0], 10**15]),
    "fraction": lambda e: e.update(shape=[float(n) for n in e["shape"]]),
    "no_shape": lambda e: e.pop("shape"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_of_impossible_shapes_are_refused(name, tmp_path):
    small_model().save(tmp_path / "m")

    def change(metadata, header):
        entry = next(e for key, e in header.items() if key != "__metadata__" and len(e["shape"]) == 2)
        TENSORS[name](entry)

    rewrite(tmp_path / "m", change_metadata=change)
    with pytest.raises(ModelFileError, match="damaged"):
        fastrnn.load(tmp_path / "m")


# -- the format


def test_golden_file_of_version_1_loads(tmp_path):
    """Written once by ``python -m tests.saved_files``; it must load as long as files of this version do."""
    kept = fastrnn.load(GOLDEN)
    model = kept["model"]
    np.testing.assert_allclose(model.predict(kept["x"]), kept["y"], rtol=1e-5, atol=1e-6)
    assert model.optimizer.iterations == 6
    assert model.history.epoch == [0, 1]
    assert np.isfinite(
        model.fit(kept["x"], data()[1], initial_epoch=2, epochs=3, verbose=0).history["loss"]
    ).all()
    assert parts(GOLDEN)[0]["__metadata__"]["format_version"] == "1"


def test_safetensors_library_reads_our_files(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = rich_model()
    model.save(tmp_path / "m")
    found = safetensors.load_file(tmp_path / "m")
    weights = [
        found[name]
        for name in json.loads(parts(tmp_path / "m")[0]["__metadata__"]["content"])["value"]["weights"]
    ]
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    arrays = {
        "b": np.array([True, False]),
        "e": np.zeros((0, 2), "f8"),
        "i": np.arange(3, dtype="u2"),
        "s": np.array(2.5),
    }
    fastrnn.save(arrays, tmp_path / "a")
    for name, array in safetensors.load_file(tmp_path / "a").items():
        np.testing.assert_array_equal(array, arrays[name.rpartition("/")[2]])


def test_files_of_the_safetensors_library_are_read(tmp_path):
    """The tensors can be read, but without a description of the model they are not a model."""
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {
        "w": np.arange(6, dtype="f4").reshape(2, 3),
        "v": np.arange(3, dtype="i8"),
        "b": np.array([True]),
    }
    safetensors.save_file(arrays, tmp_path / "s", {"format": "np"})
    raw = (tmp_path / "s").read_bytes()
    header, start = container._header("s", raw)
    header.pop("__metadata__")
    found = container._tensors("s", header, memoryview(raw)[start:])
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ModelFileError, match="another program"):
        fastrnn.load(tmp_path / "s")


def test_loading_imports_nothing_that_runs_code():
    folder = Path(fastrnn.__file__).parent / "saving"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name.split(".")[0] for alias in node.names}
                names.add((getattr(node, "module", "") or "").split(".")[0])
                assert not names & {"pickle", "marshal", "shelve", "joblib", "dill", "subprocess"}, path
            if isinstance(node, ast.Name):
                assert node.id not in ("eval", "exec", "compile", "__import__"), path


def test_search_is_refused_with_the_name_of_what_can_be_saved(tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 4, 2))
    search = GridSearchCV(RNNClassifier(max_iter=1, tol=None, random_state=0), {"units": [2, 3]}, cv=2)
    search.fit(X, np.arange(12) % 2)
    with pytest.raises(TypeError, match="object is a search, GridSearchCV.*save its best_estimator_"):
        fastrnn.save(search, tmp_path / "search")
    assert not list(tmp_path.iterdir())
    fastrnn.save(search.best_estimator_, tmp_path / "best")
    np.testing.assert_array_equal(fastrnn.load(tmp_path / "best").predict(X), search.predict(X))
