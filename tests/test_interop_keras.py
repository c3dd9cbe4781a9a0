"""Models from Keras and to Keras: the same outputs, the same weights, and an error for what can't be carried."""

import contextlib
import json
import sys
import zipfile

import numpy as np
import pytest

from fastrnn import (
    ConversionError,
    EncoderDecoder,
    ModelFileError,
    RNNClassifier,
    Sequential,
    interop,
    layers,
)
from fastrnn.interop import hdf5, hdf5_child
from fastrnn.interop import keras as keras_module
from tests import keras_oracle
from tests.limits import HANG_SECONDS

h5py = pytest.importorskip("h5py")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def keras():
    try:
        return keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))


STACKS = {
    "lstm": lambda: [
        layers.Input((None, 3)),
        layers.LSTM(4, recurrent_activation="hard_sigmoid"),
        layers.Dense(2),
    ],
    "gru": lambda: [layers.Input((None, 3)), layers.GRU(4, reset_after=False, use_bias=False, dropout=0.1)],
    "rnn": lambda: [
        layers.Input((5, 3)),
        layers.SimpleRNN(4, return_sequences=True),
        layers.Flatten(),
        layers.Dense(1),
    ],
    "bidirectional": lambda: [
        layers.Input((None, 3)),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="sum"),
        layers.TimeDistributed(layers.Dense(4, activation="gelu")),
        layers.Bidirectional(
            layers.GRU(3), backward_layer=layers.GRU(3, go_backwards=True, activation="relu")
        ),
        layers.Dropout(0.2),
        layers.Dense(2, activation="softmax", kernel_regularizer="l2", kernel_initializer="he_normal"),
    ],
    "tokens": lambda: [
        layers.Embedding(20, 4, mask_zero=True),
        layers.GRU(4, return_sequences=True, zero_output_for_mask=True),
        layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.SimpleRNNCell(2, activation="relu")])),
        layers.Activation("sigmoid"),
    ],
    "masked": lambda: [
        layers.Input((None, 3)),
        layers.Masking(),
        layers.SimpleRNN(4, kernel_constraint="max_norm"),
        layers.RepeatVector(3),
        layers.LSTM(4, return_sequences=True, go_backwards=True),
        layers.LSTM(4, unroll=True),
    ],
    "float64": lambda: [
        layers.Input((None, 3)),
        layers.LSTM(4, dtype="float64"),
        layers.Dense(2, dtype="float64"),
    ],
}


def make(name):
    return Sequential(STACKS[name](), seed=1)


def assert_same_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", STACKS)
def test_models_travel_to_keras_and_back(name, keras, capsys):
    model = make(name)
    theirs = interop.to_keras(model, verbose=True)
    assert [layer.name for layer in theirs.layers] == [layer.name for layer in model.layers]
    again = interop.from_keras(theirs, verbose=True)
    assert_same_weights(model, again)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    for ours, back in zip(model.layers, again.layers, strict=True):
        before, after = ours.get_config(), back.get_config()
        assert {k: before[k] for k in before if "use_cudnn" not in str(before[k])}.keys() <= after.keys() | {
            "use_cudnn"
        }
    assert capsys.readouterr().out.count("largest difference") == 2


@pytest.mark.parametrize("extension", ["keras", "h5"])
@pytest.mark.parametrize("name", STACKS)
def test_files_of_keras_are_read(name, extension, keras, tmp_path):
    model = make(name)
    path = tmp_path / f"m.{extension}"
    interop.to_keras(model).save(path)
    again = interop.from_keras(path)
    assert_same_weights(model, again)
    x = interop.common.example_input(model)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("name", STACKS)
def test_files_of_weights_are_read(name, keras, tmp_path):
    model = make(name)
    path = tmp_path / "m.weights.h5"
    interop.to_keras(model).save_weights(path)
    other = make(name)
    other.set_weights([w * 0 for w in other.get_weights()])
    assert interop.from_keras(path, other) is other
    assert_same_weights(model, other)
    with pytest.raises(ConversionError, match="pass the model"):
        interop.from_keras(path)


def test_files_in_the_style_of_keras_2_are_read(keras, tmp_path):
    """No input layer but batch_input_shape, dtypes as strings, and options that Keras 3 dropped."""
    model = Sequential(
        [layers.Input((None, 3)), layers.LSTM(4, return_sequences=True), layers.GRU(2), layers.Dense(1)],
        seed=0,
    )
    path = tmp_path / "old.h5"
    interop.to_keras(model).save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        entries = config["config"]["layers"]
        shape = entries.pop(0)["config"]["batch_shape"]
        for entry in entries:
            for key in ("module", "registered_name", "build_config"):
                entry.pop(key, None)
            entry["config"]["dtype"] = "float32"
            if entry["class_name"] in ("LSTM", "GRU"):
                entry["config"] |= {"implementation": 2, "time_major": False}
        entries[0]["config"]["batch_input_shape"] = shape
        config["config"].pop("build_input_shape", None)
        file.attrs["model_config"] = json.dumps(config)
    again = interop.from_keras(path)
    assert_same_weights(model, again)
    assert [type(layer).__name__ for layer in again.layers] == ["LSTM", "GRU", "Dense"]


def test_functional_models_in_a_row_are_read(keras, tmp_path):
    inputs = keras.Input((None, 3), dtype="float32")
    h = keras.layers.LSTM(4, return_sequences=True, dtype="float32")(inputs)
    outputs = keras.layers.Dense(2, dtype="float32")(keras.layers.GRU(3, dtype="float32")(h))
    theirs = keras.Model(inputs, outputs)
    theirs.save(tmp_path / "m.keras")
    for source in (theirs, tmp_path / "m.keras"):
        model = interop.from_keras(source)
        assert [type(layer).__name__ for layer in model.layers] == ["LSTM", "GRU", "Dense"]
        for ours, w in zip(model.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, w)


def test_models_that_branch_are_refused(keras):
    inputs = keras.Input((None, 3), dtype="float32")
    first = keras.layers.LSTM(4, dtype="float32")(inputs)
    keras.layers.LSTM(4, dtype="float32")(inputs)
    second = keras.layers.Dense(2, dtype="float32")(first)
    both = keras.layers.Concatenate(dtype="float32")([first, second])
    with pytest.raises(ConversionError, match="stack of layers|no counterpart"):
        interop.from_keras(keras.Model(inputs, both))


def test_classifier_travels(keras):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5, 2)).astype("float32"), rng.integers(0, 3, 20)
    model = RNNClassifier(cell="gru", units=4, max_iter=2, tol=None, random_state=0).fit(x, y)
    theirs = keras.ops.convert_to_numpy(interop.to_keras(model)(x))
    np.testing.assert_allclose(theirs, model.predict_proba(x), rtol=1e-5, atol=1e-6)


LACKING = {
    "janet": (lambda: [layers.Input((None, 3)), layers.JANET(3, name="mine")], "'mine'.*JANET"),
    "peephole": (lambda: [layers.Input((None, 3)), layers.PeepholeLSTM(3)], "PeepholeLSTM"),
    "dropout_wrapper": (
        lambda: [layers.Input((None, 3)), layers.RNN(layers.DropoutWrapper(layers.GRUCell(3), 0.5))],
        "DropoutWrapper",
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_layers_that_keras_lacks_are_named(name, keras):
    make_layers, match = LACKING[name]
    with pytest.raises(ConversionError, match=match):
        interop.to_keras(Sequential(make_layers()))


def test_layers_that_are_lacking_here_are_named(keras):
    made = keras.Sequential(
        [keras.Input((8, 3)), keras.layers.Conv1D(2, 3, name="mine"), keras.layers.GRU(2)]
    )
    with pytest.raises(ConversionError, match="'mine'.*Conv1D"):
        interop.from_keras(made)


def test_models_of_other_kinds_are_refused(keras):
    two = EncoderDecoder([layers.LSTM(3)], [layers.LSTM(3), layers.Dense(1)])
    for wrong in (two, 3, Sequential([layers.LSTM(3)]), RNNClassifier()):
        with pytest.raises(ConversionError):
            interop.to_keras(wrong)
    for wrong in (3, None, object(), make("lstm")):
        with pytest.raises(ConversionError):
            interop.from_keras(wrong)


# -- files that are not what they say


def small_files(folder, keras):
    theirs = interop.to_keras(Sequential([layers.Input((None, 1)), layers.GRU(2), layers.Dense(1)], seed=0))
    for name in ("m.keras", "m.h5"):
        theirs.save(folder / name)
    theirs.save_weights(folder / "m.weights.h5")
    return [folder / name for name in ("m.keras", "m.h5", "m.weights.h5")]


@pytest.mark.parametrize("where", ["child", "directly"])
def test_damaged_files_raise_our_errors_only(where, keras, tmp_path, monkeypatch):
    if where == "directly":
        monkeypatch.setattr(hdf5, "_run_child", lambda *arguments: None)
    rng = np.random.default_rng(0)
    model = Sequential([layers.Input((None, 1)), layers.GRU(2), layers.Dense(1)])
    for path in small_files(tmp_path, keras):
        raw = path.read_bytes()
        for k in range(150 if where == "directly" else 6):
            changed = bytearray(raw)
            if k % 3 == 0:
                changed = changed[: int(rng.integers(len(raw)))]
            else:
                for at in rng.integers(0, len(raw), 1 + k % 7):
                    changed[at] = rng.integers(256)
            path.write_bytes(changed)
            # Any other error, or a warning, fails the test.
            with contextlib.suppress(ConversionError, ModelFileError):
                interop.from_keras(path, model if "weights" in path.name else None)


@pytest.mark.parametrize("method", [12, 14, 93, 99])
def test_archives_with_other_compressions_are_refused(method, keras, tmp_path):
    """Each raises an error of its own in zipfile: bzip2, LZMA, Zstandard and an unknown one."""
    path = small_files(tmp_path, keras)[0]
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"model.weights.h5") - 46  # of the archive's list of members
    assert raw[entry : entry + 4] == b"PK\1\2"
    raw[entry + 10] = method
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match="compressed in a way"):
        interop.from_keras(path)


BAD_CHILDREN = {
    "crashes": ("import os; os.abort()", r"m\.h5.*HDF5's library crashed"),
    "hangs": ("import time; time.sleep(1e5)", r"m\.h5.*took more than"),
    "computes": ("while True: pass", r"m\.h5.*HDF5's library crashed on it, or took too long"),
    "allocates": ("kept = bytearray(1 << 32)", r"m\.h5.*MemoryError"),
}


@pytest.mark.parametrize("kind", BAD_CHILDREN)
def test_crashes_of_hdf5_are_contained(kind, keras, tmp_path, monkeypatch):
    """The script stands for HDF5's library, which does all of that with some damaged files."""
    if kind in ("allocates", "computes") and not sys.platform.startswith("linux"):
        pytest.skip("only Linux limits memory and CPU time here")
    body, match = BAD_CHILDREN[kind]
    script = tmp_path / "child.py"
    script.write_text(
        "import sys\n"
        "from fastrnn.interop import hdf5_child as child\n"
        "def harm(h5py, path, member, size):\n"
        f"    {body}\n"
        "child.read = harm\n"
        "child.main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))\n"
    )
    monkeypatch.setattr(hdf5, "_SCRIPT", script)
    # Limits that a slow start of the process does not reach, but for what this is about.
    monkeypatch.setattr(hdf5, "_SECONDS", 3.0 if kind == "hangs" else HANG_SECONDS)
    monkeypatch.setattr(hdf5, "_CPU_SECONDS", 2 if kind == "computes" else int(HANG_SECONDS))
    path = small_files(tmp_path, keras)[1]
    with pytest.raises(ModelFileError, match=match):
        interop.from_keras(path)


def test_groups_that_contain_themselves_are_refused(tmp_path):
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense")
        group["vars"] = group
    model = Sequential([layers.Input((2,)), layers.Dense(1)])
    with pytest.raises(ModelFileError, match="second link"):
        interop.from_keras(path, model)


@pytest.mark.parametrize("how", ["no interpreter", "frozen", "forbidden", "another program"])
def test_hdf5_is_read_directly_where_no_process_can_be_started(how, keras, tmp_path, monkeypatch):
    path = small_files(tmp_path, keras)[1]
    expected = interop.from_keras(path)
    if how == "no interpreter":
        monkeypatch.setattr(sys, "executable", "")
    elif how == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif how == "forbidden":
        monkeypatch.setattr(sys, "executable", str(tmp_path))
    else:  # an interpreter inside another program, which does not know Python's options
        monkeypatch.setattr(hdf5, "_SCRIPT", tmp_path / "missing.py")
    calls = []
    directly = hdf5_child.read
    monkeypatch.setattr(hdf5_child, "read", lambda *a: calls.append(a) or directly(*a))
    assert_same_weights(interop.from_keras(path), expected)
    assert len(calls) == 1


def test_hdf5_child_does_not_import_from_the_working_folder(keras, tmp_path, monkeypatch):
    path = small_files(tmp_path, keras)[1]
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    (tmp_path / "runpy.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hdf5_child, "read", None)  # so that it fails if it is read directly
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    interop.from_keras(path)


def change_config(path, change):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config["config"]["layers"])
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


HARM = {
    "units": lambda entries: entries[1]["config"].update(units=10**8),
    "class": lambda entries: entries[1].update(class_name="Lambda"),
    "input": lambda entries: entries[0]["config"].update(batch_shape=[None, None, 10**10]),
    "option": lambda entries: entries[1]["config"].update(projection=3),
    "layers": lambda entries: entries.clear(),
    "entry": lambda entries: entries.append(3),
}


@pytest.mark.parametrize("name", HARM)
def test_configurations_that_ask_for_harm_are_refused(name, keras, tmp_path):
    path = small_files(tmp_path, keras)[0]
    change_config(path, HARM[name])
    with pytest.raises((ConversionError, ModelFileError), match=r"m\.keras"):
        interop.from_keras(path)


def test_datasets_larger_than_their_file_are_refused(tmp_path):
    """HDF5 keeps a dataset of a terabyte in a few bytes, where it was never written."""
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.create_dataset("0", (2**20, 2**18), "f4", chunks=(1024, 1024))
        group.create_dataset("1", (1,), "f4")
    model = Sequential([layers.Input((2,)), layers.Dense(1)])
    with pytest.raises(ModelFileError, match="more than the file can contain"):
        interop.from_keras(path, model)


@pytest.mark.parametrize("kind", ["external_link", "soft_link", "external_values", "virtual"])
def test_files_that_lead_to_other_files_are_refused(kind, tmp_path):
    """Otherwise a model file could read whatever the program may read."""
    secret, path = tmp_path / "secret.h5", tmp_path / "m.weights.h5"
    with h5py.File(secret, "w") as file:
        file["0"] = np.arange(2.0, dtype="f4").reshape(2, 1)
    (tmp_path / "raw").write_bytes(bytes(8))
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group["1"] = np.zeros(1, "f4")
        file["elsewhere"] = np.zeros((2, 1), "f4")
        if kind == "external_link":
            group["0"] = h5py.ExternalLink(str(secret), "0")
        elif kind == "soft_link":
            group["0"] = h5py.SoftLink("/elsewhere")
        elif kind == "external_values":
            group.create_dataset("0", (2, 1), "f4", external=[(str(tmp_path / "raw"), 0, 8)])
        else:
            layout = h5py.VirtualLayout((2, 1), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "0", (2, 1))
            group.create_virtual_dataset("0", layout)
    model = Sequential([layers.Input((2,)), layers.Dense(1)])
    before = model.get_weights()
    with pytest.raises(ModelFileError, match="not followed|not read"):
        interop.from_keras(path, model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04aaaa", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_files_of_other_programs_are_refused(content, tmp_path):
    path = tmp_path / "f.keras"
    path.write_bytes(content)
    for where in (path, tmp_path, tmp_path / "missing"):
        with pytest.raises(ModelFileError, match=str(tmp_path)):
            interop.from_keras(where)


@pytest.mark.parametrize("extension", ["keras", "h5", "weights.h5"])
@pytest.mark.parametrize("name", ["masked", "float64"])
def test_files_are_compared_with_what_keras_reads_from_them(
    name, extension, keras, tmp_path, capsys, monkeypatch
):
    model, path = make(name), tmp_path / f"m.{extension}"
    theirs = interop.to_keras(model)
    (theirs.save_weights if extension == "weights.h5" else theirs.save)(path)
    more = [make(name)] if extension == "weights.h5" else []
    interop.from_keras(path, *more, verbose=True)
    assert "largest difference" in capsys.readouterr().out
    # A reader that mistakes the weights is found.
    which = "_from_archive" if extension == "keras" else "_from_hdf5"
    reader = getattr(keras_module, which)

    def mistaken(*arguments):
        found = reader(*arguments)
        found.set_weights([w + 0.1 for w in found.get_weights()])
        return found

    monkeypatch.setattr(keras_module, which, mistaken)
    with pytest.raises(ConversionError, match="from_keras: on random input .* differ"):
        interop.from_keras(path, *more, verbose=True)
