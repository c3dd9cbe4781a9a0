"""Models to ONNX and from it: onnxruntime computes what this library does, and graphs come back as the same layers."""

import contextlib

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastrnn import (
    ConversionError,
    ModelFileError,
    RNNClassifier,
    RNNRegressor,
    Sequential,
    StandardScaler3D,
    interop,
    layers,
)
from fastrnn.interop.onnx_tables import CELL_ACTIVATIONS, COMPOSED, OPERATORS
from tests.test_onnx import CASES, Node

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


STACKS = {
    "lstm": lambda: [layers.Input((None, 3)), layers.LSTM(4), layers.Dense(2, activation="softmax")],
    "gru": lambda: [
        layers.Input((None, 3)),
        layers.GRU(4, return_sequences=True, dropout=0.1),
        layers.Dropout(0.2),
        layers.GRU(3, reset_after=False, use_bias=False),
        layers.Dense(2, activation="gelu"),
    ],
    "bidirectional": lambda: [
        layers.Input((None, 3)),
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum"),
        layers.Bidirectional(
            layers.SimpleRNN(3),
            merge_mode="ave",
            backward_layer=layers.SimpleRNN(3, activation="relu", go_backwards=True),
        ),
    ],
    "product": lambda: [
        layers.Input((None, 3)),
        layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True), merge_mode="mul"),
        layers.TimeDistributed(layers.Dense(3, activation="silu")),
    ],
    "backwards": lambda: [
        layers.Input((None, 3)),
        layers.LSTM(4, go_backwards=True, return_sequences=True),
        layers.GRU(2, go_backwards=True),
    ],
    "tokens": lambda: [
        layers.Embedding(9, 3),
        layers.LSTM(4, recurrent_activation="hard_sigmoid", activation="softsign"),
        layers.Dense(1, activation="sigmoid"),
    ],
    "peepholes": lambda: [
        layers.Input((None, 3)),
        layers.PeepholeLSTM(4, return_sequences=True),
        layers.Dense(1),
    ],
    "stacked": lambda: [
        layers.Input((None, 3)),
        layers.RNN(layers.StackedRNNCells([layers.LSTMCell(4), layers.GRUCell(3)])),
        layers.RepeatVector(4),
        layers.SimpleRNN(3, return_sequences=True, activation="elu"),
    ],
    "flat": lambda: [
        layers.Input((5, 3)),
        layers.GRU(3, return_sequences=True),
        layers.Flatten(),
        layers.Dense(1, activation="relu"),
    ],
    "float64": lambda: [
        layers.Input((None, 3)),
        layers.GRU(3, dtype="float64"),
        layers.Dense(1, dtype="float64"),
    ],
}


def make(name):
    model = Sequential(STACKS[name](), seed=0)
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.2 * rng.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def session(model):
    return runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", [n for n in STACKS if n != "float64"])
def test_onnxruntime_computes_the_same_for_any_batch_and_time(name):
    model = make(name)
    made = interop.to_onnx(model)
    onnx.checker.check_model(made, full_check=True)
    run = session(made)
    for n_batch, n_steps in ((1, 1), (5, 9)):
        n_steps = 5 if name == "flat" else n_steps
        rng = np.random.default_rng(2)
        x = (
            rng.integers(0, 9, (n_batch, n_steps))
            if name == "tokens"
            else rng.normal(size=(n_batch, n_steps, 3))
        )
        x = x if name == "tokens" else x.astype("float32")
        np.testing.assert_allclose(run.run(["y"], {"x": x})[0], model(x), rtol=1e-5, atol=1e-6)
    recurrent = [n.op_type for n in made.graph.node if n.op_type in ("RNN", "GRU", "LSTM")]
    assert len(recurrent) == {"gru": 2, "bidirectional": 3, "backwards": 2, "stacked": 3}.get(name, 1)


@pytest.mark.parametrize("name", STACKS)
def test_graphs_come_back_as_the_same_layers(name, tmp_path, capsys):
    model = make(name)
    made = interop.to_onnx(model, tmp_path / "m.onnx", verbose=True)
    for source in (made, tmp_path / "m.onnx"):
        again = interop.from_onnx(source, verbose=True)
        if name != "stacked":  # cells on top of each other come back as layers
            drop = ("Dropout",)
            kept = [layer for layer in model.layers if type(layer).__name__ not in drop]
            names = [type(layer).__name__.replace("TimeDistributed", "Dense") for layer in kept]
            assert [
                type(layer).__name__ for layer in again.layers if not isinstance(layer, layers.Activation)
            ] == names
        for a, b in zip(model.get_weights(), again.get_weights(), strict=name != "gru"):
            if a.shape == b.shape:
                np.testing.assert_allclose(a, b, rtol=1e-6)
    assert capsys.readouterr().out.count("largest difference") == 3


@pytest.mark.parametrize("name", [*OPERATORS, *COMPOSED])
def test_activations_travel(name):
    model = Sequential([layers.Input((None, 3)), layers.Dense(4), layers.Activation(name)], seed=0)
    again = interop.from_onnx(interop.to_onnx(model))
    assert name in [getattr(layer, "activation", None) for layer in again.layers]


@pytest.mark.parametrize("name", CELL_ACTIVATIONS)
@pytest.mark.parametrize("layer", [layers.SimpleRNN, layers.GRU, layers.LSTM])
def test_activations_of_cells_travel(layer, name):
    both = layers.Bidirectional(layer(4, activation=name, return_sequences=True))
    again = interop.from_onnx(interop.to_onnx(Sequential([layers.Input((None, 3)), both], seed=0)))
    assert again.layers[0].forward_layer.activation == name
    assert again.layers[0].backward_layer.activation == name


@pytest.mark.parametrize("cell", [layers.SimpleRNN, layers.GRU, layers.LSTM, layers.PeepholeLSTM])
def test_streams_go_on_by_states_as_inputs_and_outputs(cell):
    model = Sequential(
        [
            layers.Input((None, 3)),
            cell(4, return_sequences=True, name="a"),
            cell(3, name="b"),
            layers.Dense(2),
        ],
        seed=0,
    )
    run = session(interop.to_onnx(model, streaming=True))
    stream = model.stream(batch_size=2)
    states = {i.name: np.zeros((2, i.shape[1]), "float32") for i in run.get_inputs() if i.name != "x"}
    assert set(states) == {
        f"{layer}_{s}" for layer in "ab" for s in ("hc" if "LSTM" in cell.__name__ else "h")
    }
    x = np.random.default_rng(0).normal(size=(2, 20, 3)).astype("float32")
    at = 0
    for n in (1, 1, 3, 5, 10):
        names = ["y", *(f"{s}_out" for s in states)]
        y, *after = run.run(names, {"x": x[:, at : at + n], **states})
        states = dict(zip(states, after, strict=True))
        for t in range(at, at + n):
            expected = stream.step(x[:, t])
        at += n
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_lengths_stand_for_masks_of_padding():
    model = Sequential(
        [
            layers.Embedding(9, 3, mask_zero=True),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.GRU(3),
            layers.Dense(1),
        ],
        seed=0,
    )
    run = session(interop.to_onnx(model, lengths=True))
    lengths = np.array([6, 2, 1, 4], np.int32)
    x = np.random.default_rng(0).integers(1, 9, (4, 6)) * (np.arange(6) < lengths[:, None])
    np.testing.assert_allclose(
        run.run(["y"], {"x": x, "lengths": lengths})[0], model(x), rtol=1e-5, atol=1e-6
    )


LABELS = {
    "three_strings": np.array(["ä", "b", "cc"]),
    "two_strings": np.array(["no", "yes"], object),
    "integers": np.array([7, -2, 5]),
    "floats": np.array([0.0, 1.0]),
    "booleans": np.array([False, True]),
}


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("kind", LABELS)
def test_classifiers_travel_with_labels_and_scaler(kind, scaled):
    rng = np.random.default_rng(0)
    labels = LABELS[kind]
    x, y = rng.normal(size=(30, 5, 2)).astype("float32") * 3 + 7, labels[rng.integers(0, len(labels), 30)]
    model = RNNClassifier(cell="gru", units=4, max_iter=2, tol=None, random_state=0)
    model = (make_pipeline(StandardScaler3D(), model) if scaled else model).fit(x, y)
    made = interop.to_onnx(model)
    label, probabilities = session(made).run(["label", "probabilities"], {"x": x})
    np.testing.assert_allclose(probabilities, model.predict_proba(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(label, model.predict(x))
    network = interop.from_onnx(made)
    for a, b in zip(
        network.get_weights(), (model[-1] if scaled else model).model_.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regressors_travel(n_outputs, per_step):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 5, 2)).astype("float32")
    y = rng.normal(size=(20, 5, n_outputs) if per_step else (20, n_outputs)).astype("float32")
    y = y[..., 0] if n_outputs == 1 and not per_step else y
    model = make_pipeline(
        StandardScaler3D(),
        RNNRegressor(units=3, max_iter=2, tol=None, random_state=0, return_sequences=per_step),
    ).fit(x, y)
    found = session(interop.to_onnx(model)).run(["y"], {"x": x})[0]
    expected = model.predict(x)
    assert found.size == expected.size
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    if not per_step:
        assert found.shape == expected.shape


# -- the cases of ONNX itself


def case_model(case):
    """A case's graph, its weights as constants rather than inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    (node,) = model.graph.node
    arrays = iter(case.data_sets[0][0])
    given = {name: np.asarray(next(arrays)) for name in node.input if name}
    for role, name in zip(("X", "W", "R", "B", "lengths", "h", "c", "P"), node.input, strict=False):
        if name and role in ("W", "R", "B", "P"):
            model.graph.initializer.append(onnx.numpy_helper.from_array(given[name], name))
            kept = [i for i in model.graph.input if i.name != name]
            del model.graph.input[:]
            model.graph.input.extend(kept)
    return model, given[node.input[0]]


@pytest.mark.parametrize("name", CASES)
def test_cases_of_onnx_become_models(name):
    model, x = case_model(CASES[name])
    node = Node(CASES[name])
    read = interop.from_onnx(model, output=next(o for o in model.graph.node[0].output if o.endswith("_h")))
    batch_first = x if node.batch_major else x.swapaxes(0, 1)
    expected = node.outputs["Y_h"]
    expected = expected if node.batch_major else expected.swapaxes(0, 1)
    mask = None
    if node.inputs["sequence_lens"] is not None:
        mask = np.arange(batch_first.shape[1]) < node.inputs["sequence_lens"][:, None]
    found = read(batch_first, mask=mask)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


def test_all_steps_of_a_reversed_operator_are_refused():
    model, _ = case_model(CASES["test_gru_reverse"])
    with pytest.raises(ConversionError, match="order of processing"):
        interop.from_onnx(model, output="Y")


# -- what can't be carried


LACKING = {
    "janet": (lambda: [layers.Input((None, 3)), layers.JANET(3, name="mine")], {}, "'mine'.*JANET"),
    "indrnn": (lambda: [layers.Input((None, 3)), layers.IndRNN(3)], {}, "IndRNN"),
    "activation": (
        lambda: [layers.Input((None, 3)), layers.LSTM(3, activation="gelu")],
        {},
        "activation='gelu'",
    ),
    "dense": (lambda: [layers.Input((None, 3)), layers.Dense(3, activation="sparsemax")], {}, "sparsemax"),
    "mask": (lambda: [layers.Embedding(5, 3, mask_zero=True), layers.LSTM(3)], {}, "lengths=True"),
    "masking": (lambda: [layers.Input((None, 3)), layers.Masking(), layers.LSTM(3)], {}, "lengths=True"),
    "stateful": (lambda: [layers.Input((None, 3)), layers.LSTM(3, stateful=True)], {}, "streaming=True"),
    "future": (
        lambda: [layers.Input((None, 3)), layers.Bidirectional(layers.LSTM(3))],
        {"streaming": True},
        "needs the future",
    ),
    "unlike": (
        lambda: [
            layers.Input((None, 3)),
            layers.Bidirectional(layers.LSTM(3), backward_layer=layers.GRU(3, go_backwards=True)),
        ],
        {},
        "alike in both directions",
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_onnx_lacks_is_named(name, tmp_path):
    made, options, match = LACKING[name]
    with pytest.raises(ConversionError, match=match):
        interop.to_onnx(Sequential(made()), tmp_path / "m.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_scalers_of_other_kinds_are_named():
    rng = np.random.default_rng(0)
    pipe = make_pipeline(StandardScaler(), RNNRegressor(units=2, max_iter=1, tol=None)).fit(
        rng.normal(size=(9, 4)), np.arange(9.0)
    )
    with pytest.raises(ConversionError, match="'standardscaler'.*StandardScaler3D"):
        interop.to_onnx(pipe)


def graph(nodes, constants=(), outputs=("y",)):
    value = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        [onnx.helper.make_node(*n[:3], **(n[3] if len(n) > 3 else {})) for n in nodes],
        "g",
        [value("x", 1, [None, None, 3])],
        [value(o, 1, None) for o in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a, "float32"), n) for n, a in constants],
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


W, R = np.ones((1, 2, 3)), np.ones((1, 2, 2))
UNKNOWN = {
    "operator": (graph([("Sin", ["x"], ["y"])]), "Sin.*not known"),
    "branch": (graph([("Relu", ["x"], ["a"]), ("Add", ["x", "a"], ["y"])]), "is an input of 2 nodes"),
    "computed_weight": (
        graph([("Exp", ["w"], ["v"]), ("MatMul", ["x", "v"], ["y"])], [("w", np.ones((3, 2)))]),
        "'v' is computed",
    ),
    "slope": (
        graph(
            [("MatMul", ["x", "w"], ["a"]), ("LeakyRelu", ["a"], ["y"], {"alpha": 0.5})],
            [("w", np.ones((3, 2)))],
        ),
        "alpha=0.5",
    ),
    "clip": (
        graph([("RNN", ["x", "w", "r"], ["y"], {"hidden_size": 2, "clip": 1.0})], [("w", W), ("r", R)]),
        "clip",
    ),
    "activation": (
        graph(
            [("RNN", ["x", "w", "r"], ["y"], {"hidden_size": 2, "activations": ["ScaledTanh"]})],
            [("w", W), ("r", R)],
        ),
        "ScaledTanh",
    ),
    "states": (
        graph(
            [("RNN", ["x", "w", "r", "", "", "h"], ["y"], {"hidden_size": 2})],
            [("w", W), ("r", R), ("h", np.ones((1, 1, 2)))],
        ),
        "constant states",
    ),
    "no_layers": (graph([("Identity", ["x"], ["y"])]), "no layers"),
    "cell_state": (
        graph(
            [("LSTM", ["x", "w", "r"], ["", "", "y"], {"hidden_size": 2})],
            [("w", np.ones((1, 8, 3))), ("r", np.ones((1, 8, 2)))],
        ),
        "Y_c",
    ),
    "scale": (
        graph(
            [("MatMul", ["x", "w"], ["a"]), ("Mul", ["a", "k"], ["y"])], [("w", np.ones((3, 2))), ("k", 2.0)]
        ),
        "Mul",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_graphs_that_are_not_known_are_refused(name):
    model, match = UNKNOWN[name]
    with pytest.raises(ConversionError, match=match):
        interop.from_onnx(model)


def test_graphs_that_move_axes_otherwise_are_found_by_comparing():
    """A softmax over time is an activation over units to the reader; the outputs tell."""
    model = graph([("MatMul", ["x", "w"], ["a"]), ("Softmax", ["a"], ["y"], {"axis": 1})], [("w", np.eye(3))])
    with pytest.raises(ConversionError, match="axis|computes something else"):
        interop.from_onnx(model)


@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_weights_in_other_files_are_not_read(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(np.ones((3, 2), "float32").tobytes())
    tensor = onnx.numpy_helper.from_array(np.ones((3, 2), "float32"), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret"
    model = graph([("MatMul", ["x", "w"], ["y"])])
    if where == "initializer":
        model.graph.initializer.append(tensor)
    else:
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=tensor))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    for source in (model, tmp_path / "m.onnx"):
        with pytest.raises((ConversionError, ModelFileError), match="other files|not a valid"):
            interop.from_onnx(source)


def test_damaged_files_raise_our_errors_only(tmp_path):
    path = tmp_path / "m.onnx"
    interop.to_onnx(make("lstm"), path)
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(150):
        changed = bytearray(raw)
        if k % 3 == 0:
            changed = changed[: int(rng.integers(len(raw)))]
        else:
            for at in rng.integers(0, len(raw), 1 + k % 5):
                changed[at] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(ConversionError, ModelFileError):  # another error fails the test
            interop.from_onnx(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K."])
def test_files_of_other_programs_are_refused(content, tmp_path):
    path = tmp_path / "f.onnx"
    path.write_bytes(content)
    for where in (path, tmp_path, tmp_path / "missing"):
        with pytest.raises((ModelFileError, ConversionError)):
            interop.from_onnx(where)
    for wrong in (3, None, object()):
        with pytest.raises(ConversionError, match="give an onnx"):
            interop.from_onnx(wrong)
    with pytest.raises(ConversionError, match="output='z'"):
        interop.from_onnx(interop.to_onnx(make("lstm")), output="z")
