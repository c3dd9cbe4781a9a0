"""The C that `to_c` writes, compiled strictly and with sanitizers, beside ``stream.step``."""

import copy
import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

from fastrnn import ConversionError, ModelFileError, RNNClassifier, Sequential, interop, layers
from fastrnn.engine.kernels.activations import ACTIVATIONS
from fastrnn.interop.c_layers import quantized

GCC = shutil.which("gcc") or shutil.which("cc")
FLAGS = [
    "-std=c99",
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover",
]
compiles = pytest.mark.skipif(GCC is None, reason="no C compiler")

MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
{includes}
int main(int argc, char **argv) {{
    FILE *in = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
    if (argc != 4 || !in || !out) return 2;
{runs}
    fclose(in);
    fclose(out);
    return 0;
}}
"""
RUN = """    if (!strcmp(argv[1], "{name}")) {{
        {name}_state state;
        {x_type} x[{upper}_N_INPUTS];
        {real} y[{upper}_N_OUTPUTS];
        {name}_reset(&state);
        while (fread(x, sizeof x, 1, in) == 1) {{
            if ({name}_step(&state, x, y)) return 3;
            fwrite(y, sizeof y, 1, out);
        }}
    }}
"""


def compiled(folder, models, flags=FLAGS, **options):
    """Write the models, compile them into one program, and return a function that runs one over a sequence."""
    runs, includes = "", ""
    for name, model in models.items():
        interop.to_c(model, folder / f"{name}.c", **options)
        real = "float" if model.layers[0].dtype == np.float32 else "double"
        first = next((layer for layer in model.layers if not layer.unchanged), model.layers[0])
        x_type = "int" if first.takes_tokens else real
        runs += RUN.format(name=name, upper=name.upper(), x_type=x_type, real=real)
        includes += f'#include "{name}.h"\n'
    (folder / "main.c").write_text(MAIN.format(includes=includes, runs=runs))
    sources = [f"{name}.c" for name in models]
    subprocess.run([GCC, *flags, "main.c", *sources, "-o", "program", "-lm"], cwd=folder, check=True)

    def run(name, x):
        model = models[name]
        x = x.astype(np.int32) if x.ndim == 1 else x.astype(model.layers[0].dtype)
        (folder / "x").write_bytes(x.tobytes())
        done = subprocess.run(["./program", name, "x", "y"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return np.frombuffer((folder / "y").read_bytes(), model.layers[0].dtype).reshape(len(x), -1)

    return run


def streamed(model, x):
    stream = model.stream()
    return np.concatenate([stream.step(x[t : t + 1]).copy() for t in range(len(x))])


def randomized(model, seed=1):
    """Biases and other weights that start at zero get values too."""
    rng = np.random.default_rng(seed)
    model.set_weights([w + 0.3 * rng.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def stack(*made, n_inputs=3, **options):
    return randomized(Sequential([layers.Input((None, n_inputs), **options), *made], seed=0))


MODELS = {
    "simple_rnn": lambda: stack(layers.SimpleRNN(6, activation="tanh"), layers.Dense(2)),
    "lstm": lambda: stack(layers.LSTM(8), layers.Dense(3, activation="softmax")),
    "lstm_no_bias": lambda: stack(layers.LSTM(5, use_bias=False, activation="softsign")),
    "gru": lambda: stack(layers.GRU(8), layers.Dense(1, activation="sigmoid")),
    "gru_before": lambda: stack(layers.GRU(7, reset_after=False, recurrent_activation="hard_sigmoid")),
    "gru_no_bias": lambda: stack(layers.GRU(4, use_bias=False)),
    "peephole": lambda: stack(layers.PeepholeLSTM(6)),
    "janet": lambda: stack(layers.JANET(6, beta=0.7)),
    "indrnn": lambda: stack(layers.IndRNN(6, activation="tanh")),
    "deep": lambda: stack(
        layers.Dropout(0.2),
        layers.TimeDistributed(layers.Dense(5, activation="gelu")),
        layers.GRU(4, return_sequences=True, dropout=0.1),
        layers.LSTM(6, return_sequences=True, stateful=False),
        layers.Activation("tanh"),
        layers.SimpleRNN(3, return_sequences=True),
        layers.Dense(4, activation="log_softmax"),
    ),
    "tokens": lambda: randomized(
        Sequential([layers.Embedding(11, 4), layers.GRU(5), layers.Dense(2)], seed=0)
    ),
    "tokens_masked": lambda: randomized(
        Sequential([layers.Embedding(11, 4, mask_zero=True), layers.LSTM(5), layers.Dense(2)], seed=0)
    ),
    "masked": lambda: stack(layers.Masking(-1.5), layers.GRU(5), layers.Dense(2)),
    "without_states": lambda: stack(layers.Dense(4, activation="selu"), layers.Dense(1)),
    "float64": lambda: randomized(
        Sequential(
            [layers.Input((None, 2)), layers.LSTM(5, dtype="float64"), layers.Dense(2, dtype="float64")],
            seed=0,
        )
    ),
}


def sequence(model, n_steps):
    rng = np.random.default_rng(3)
    first = next((layer for layer in model.layers if not layer.unchanged), model.layers[0])
    if first.takes_tokens:
        return rng.integers(0, first.input_dim, n_steps)
    x = rng.normal(size=(n_steps, model._shapes[0][-1])).astype(model.layers[0].dtype)
    x[rng.random(n_steps) < 0.2] = -1.5  # what the masked model leaves out
    return x


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if GCC is None:
        pytest.skip("no C compiler")
    models = {name: make() for name, make in MODELS.items()}
    return models, compiled(tmp_path_factory.mktemp("c"), models)


@pytest.mark.parametrize("name", MODELS)
def test_c_matches_stream_over_10000_steps(name, program):
    models, run = program
    x = sequence(models[name], 10_000)
    expected = streamed(models[name], x)
    found = run(name, x)
    assert np.abs(expected).max() > 0.01
    tolerance = 1e-12 if name == "float64" else 1e-5
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@compiles
def test_every_activation_matches_ours(tmp_path):
    names = [name for name in ACTIVATIONS if name != "sparsemax"]
    models = {}
    for name in names:
        models[f"a_{name}"] = Sequential([layers.Input((None, 9)), layers.Activation(name)])
    run = compiled(tmp_path, models)
    x = np.random.default_rng(0).normal(size=(200, 9)).astype("float32") * 5
    x[0] = [0, 1, -1, 3, -3, 6, -80, 80, 0.5]
    for name, model in models.items():
        if name == "a_exponential":
            x = np.minimum(x, 20)
        np.testing.assert_allclose(run(name, x), model(x[None])[0], rtol=2e-6, atol=2e-6, err_msg=name)


@compiles
@pytest.mark.parametrize("name", ["lstm", "gru_before", "tokens", "deep"])
def test_int8_weights_have_the_error_that_is_stated(name, tmp_path):
    model = MODELS[name]()
    files = interop.to_c(model, tmp_path / "q.c", weights="int8")
    plain = interop.to_c(model, tmp_path / "p.c")
    assert files.weight_bytes < 0.55 * plain.weight_bytes
    assert plain.error == 0
    assert 0 < files.error < 0.3
    assert f"{files.error:.3g}" in (tmp_path / "q.h").read_text()
    rounded = copy.deepcopy(model)
    for layer in rounded.layers:
        weights = []
        for key, value in layer._weights.items():
            if key.rpartition("/")[2] in ("kernel", "recurrent_kernel", "embeddings"):
                codes, scale = quantized(value)
                assert np.abs(codes * scale - value).max() <= scale.max() / 2 + 1e-6
                value = codes * scale
            weights.append(value)
        layer.set_weights(weights)
    x = sequence(model, 2000)
    found = compiled(tmp_path, {"q": model}, weights="int8")("q", x)
    np.testing.assert_allclose(found, streamed(rounded, x), rtol=0, atol=2e-5)


def test_stacked_cells_are_written_too(tmp_path):
    if GCC is None:
        pytest.skip("no C compiler")
    cells = [layers.LSTMCell(4), layers.GRUCell(3), layers.JANETCell(2)]
    model = stack(layers.RNN(layers.StackedRNNCells(cells), return_sequences=True), layers.Dense(2))
    x = np.random.default_rng(0).normal(size=(300, 3)).astype("float32")
    np.testing.assert_allclose(compiled(tmp_path, {"s": model})("s", x), model(x[None])[0], atol=1e-5)


@compiles
def test_classifier_scores_in_c(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 12, 2)).astype("float32"), rng.integers(0, 3, 30)
    model = RNNClassifier(cell="gru", units=6, max_iter=3, tol=None, random_state=0).fit(x, y)
    run = compiled(tmp_path, {"c": model.model_})
    for row, expected in zip(x, model.predict_proba(x), strict=True):
        np.testing.assert_allclose(run("c", row)[-1], expected, atol=1e-5)


@compiles
def test_tokens_out_of_range_change_nothing(tmp_path):
    model = MODELS["tokens"]()
    interop.to_c(model, tmp_path / "t.c")
    subprocess.run(
        [GCC, "-std=c99", "-shared", "-fPIC", "t.c", "-o", "t.so", "-lm"], cwd=tmp_path, check=True
    )
    library = ctypes.CDLL(str(tmp_path / "t.so"))
    state, y = (ctypes.c_float * 5)(), (ctypes.c_float * 2)()
    library.t_reset(state)
    assert library.t_step(state, ctypes.byref(ctypes.c_int(3)), y) == 0
    before = list(state), list(y)
    for token in (-1, 11, 2**31 - 1, -(2**31)):
        assert library.t_step(state, ctypes.byref(ctypes.c_int(token)), y) == 1
    assert (list(state), list(y)) == before
    library.t_reset(state)
    assert list(state) == [0.0] * 5


def test_files_allocate_nothing_and_need_math_alone(tmp_path):
    files = interop.to_c(MODELS["deep"](), tmp_path / "d.c", name="net")
    text = (tmp_path / "d.c").read_text()
    assert set(re.findall(r"#include (\S+)", text)) == {'"d.h"', "<math.h>"}
    assert not re.search(r"\b(malloc|calloc|realloc|free|alloca)\b", text)
    assert files.state_bytes == 4 * (4 + 6 + 6 + 3)
    assert "net_reset(net_state *s);" in (tmp_path / "d.h").read_text()


REFUSED = {
    "backwards": (lambda: stack(layers.LSTM(3, go_backwards=True)), "go_backwards"),
    "both_ways": (lambda: stack(layers.Bidirectional(layers.LSTM(3))), "Bidirectional"),
    "flatten": (
        lambda: randomized(Sequential([layers.Input((4, 3)), layers.Flatten(), layers.Dense(1)])),
        "Flatten",
    ),
    "states": (lambda: Sequential([layers.LSTM(3)]), "no weights"),
    "activation": (lambda: stack(layers.Dense(3, activation="sparsemax", name="mine")), "'mine'.*sparsemax"),
    "no_steps": (lambda: Sequential([layers.Input((3,)), layers.Dense(1)]), "batch, time, features"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_step_is_named(name, tmp_path):
    make, match = REFUSED[name]
    with pytest.raises(ConversionError, match=match):
        interop.to_c(make(), tmp_path / "n.c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["1net", "int", "a-b", "", "é"])
def test_names_that_c_does_not_take_are_refused(wrong, tmp_path):
    with pytest.raises(ConversionError, match="name"):
        interop.to_c(MODELS["gru"](), tmp_path / "net.c", name=wrong or "1")


def test_wrong_arguments_are_refused(tmp_path):
    model = MODELS["gru"]()
    with pytest.raises(ConversionError, match=r"\.c"):
        interop.to_c(model, tmp_path / "net.cpp")
    with pytest.raises(ValueError, match="weights='int4'"):
        interop.to_c(model, tmp_path / "net.c", weights="int4")
    with pytest.raises(ModelFileError):
        interop.to_c(model, tmp_path / "no" / "net.c")
    model.set_weights([w * np.nan for w in model.get_weights()])
    with pytest.raises(ConversionError, match="NaN"):
        interop.to_c(model, tmp_path / "net.c")


@compiles
@pytest.mark.parametrize("name", ["lstm", "gru", "deep"])
def test_code_is_compared_with_the_model_on_request(name, tmp_path, capsys, monkeypatch):
    model = MODELS[name]()
    interop.to_c(model, tmp_path / "a_model.c", verbose=True)
    said = capsys.readouterr().out
    assert float(re.search(r"largest difference (\S+) on random input", said)[1]) < 1e-5
    # Code with other weights is found.
    write = interop.c._written

    def mistaken(code, network, header):
        return write(code, randomized(copy.deepcopy(network), 7), header)

    monkeypatch.setattr(interop.c, "_written", mistaken)
    with pytest.raises(ConversionError, match="to_c: on random input .* differ"):
        interop.to_c(model, tmp_path / "other.c", verbose=True)


def test_code_is_written_without_a_compiler_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    interop.to_c(MODELS["gru"](), tmp_path / "m.c", verbose=True)
    assert "no C compiler was found" in capsys.readouterr().out
