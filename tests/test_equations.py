"""Cells by their equations: values and gradients of every cell, and what the trace makes of a function."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from fastrnn import layers
from fastrnn.cells import equations, exp, log, maximum, minimum, relu, sigmoid, softplus, sqrt, tanh, where
from fastrnn.cells.co_rnn import CoRNN
from fastrnn.cells.echo_state import EchoState
from fastrnn.cells.fast_grnn import FastGRNN
from fastrnn.cells.lstm import LSTM
from fastrnn.cells.min_gru import MinGRU
from fastrnn.cells.min_lstm import MinLSTM
from fastrnn.cells.slstm import SLSTM
from fastrnn.engine import tuning
from fastrnn.engine.equations.cell import written
from fastrnn.engine.equations.derive import derive, differentiate
from fastrnn.engine.equations.loops import ALL
from fastrnn.engine.equations.operations import OPERATIONS
from fastrnn.engine.equations.oracle import run_on_arrays
from fastrnn.engine.equations.schedules import schedules
from fastrnn.engine.equations.trace import Graph, Node, parents
from fastrnn.exceptions import EquationError
from fastrnn.testing import check_cell

NEW = {cls.__name__: cls for cls in (CoRNN, EchoState, FastGRNN, MinGRU, MinLSTM, SLSTM)}


@equations("a b c", "h s", extra="w v", late="c")
def Everything(z, prev, p, activation=tanh, gate=sigmoid, leak=0.25):
    """An arbitrary cell that uses most of what equations may use."""
    a = gate(z.a + p.w * prev.s)
    g = activation(z.c(a * prev.h)) / (1 + sqrt(1 + z.b**2))
    leaky = where((z.a > 0) & ~(z.a < 0), z.a, 0.2 * z.a)
    kept = leaky + maximum(prev.s, z.b) * minimum(prev.s, -0.25) * exp(-(p.v**2))
    s = leak * kept + (1 - leak) * log(1.5 + a) - abs(z.b) / 8
    return a * g + (1 - a) * softplus(prev.h) / 2, s


@equations("z r", recurrent=True)
def Split(z, u, prev, activation=relu):
    """The recurrent product kept apart."""
    return prev.h / 2 + activation(z.z + u.z) * tanh(u.r - z.r)


CELLS = {**NEW, "Everything": Everything, "Split": Split}


def weights_of(cell, n_inputs, rng, dtype):
    """Random weights in the layout of the engine."""
    from fastrnn.engine.recurrence.run import Weights

    parts, u = cell.traits(), cell.n_units
    width = parts.n_gates * u

    def normal(*shape):
        return (rng.normal(size=shape) * 0.5).astype(dtype)

    return Weights(
        normal(n_inputs, width),
        normal(u, width) if parts.recurrent else None,
        normal(width),
        normal(width) if parts.split else None,
        normal(parts.n_extra, u) if parts.n_extra else None,
    )


def layer_of(cell, weights, dtype):
    layer = layers.RNN(
        layers.KernelCell(cell, dtype=dtype), return_sequences=True, return_state=True, dtype=dtype
    )
    layer.build((None, None, weights.kernel.shape[0]))
    bias = (
        weights.bias if weights.recurrent_bias is None else np.stack([weights.bias, weights.recurrent_bias])
    )
    given = [weights.kernel, weights.recurrent, bias, weights.extra]
    if weights.recurrent is None and weights.extra is not None:
        given = [weights.kernel, weights.extra, bias]
    layer.set_weights([w for w in given if w is not None])
    return layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CELLS)
def test_equations_forward_matches_numpy(name, dtype, rng):
    cell = CELLS[name](n_units=37)  # no multiple of any vector's width
    weights = weights_of(cell, 3, rng, dtype)
    layer = layer_of(cell, weights, dtype)
    x = rng.normal(size=(4, 5, 3)).astype(dtype)
    states = [np.abs(rng.normal(size=(4, 37))).astype(dtype) for _ in cell.definition.states]
    expected = run_on_arrays(cell, weights, x, states)
    rtol = 2e-5 if dtype == "float32" else 1e-12
    for training in (False, True):
        for got, want in zip(
            layer.forward(x, training=training, initial_state=states)[0], expected, strict=True
        ):
            assert want.dtype == dtype
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", CELLS)
def test_equations_pass_check_cell(name):
    seed = 1 if name == "Everything" else 0  # with the other one a number lies at a kink
    check_cell(CELLS[name](n_units=4), seed=seed)


@pytest.mark.parametrize("activation", ["gelu", "softmax", "mish"])
def test_equations_with_any_activation_pass_check_cell(activation):
    check_cell(
        Everything.with_activations(4, {"activation": activation, "gate": "hard_sigmoid"}, leak=0.5), seed=3
    )


@pytest.mark.parametrize("n_units", [16, 70])
@pytest.mark.parametrize("cell", [layers.LSTMCell, layers.JANETCell, layers.PeepholeLSTMCell])
def test_rows_of_any_width_pass_check_cell(cell, n_units):
    """Narrow and wide rows have loops that are cut in different ways."""
    check_cell(cell(n_units), n_inputs=2, max_entries=4)


def test_wide_rows_before_late_products_match_finite_differences():
    check_cell(layers.GRUCell(70, reset_after=False), n_inputs=2, max_entries=4)


def test_loops_are_cut_by_their_costs(monkeypatch):
    costs = tuning.LoopCosts({(1, 4): (2.0, 1.0), (0, 2): (1.0, 2.0)}, {1: (2.0, 1.0), 2: (1.0, 2.0)})
    monkeypatch.setattr(tuning, "LOOP_COSTS", {(256, 32): costs})
    found = schedules(32, rowwise=False, vector_bits=256)
    assert (found.narrow.functions, found.narrow.at_once) == (ALL, 2)
    assert (found.wide.functions, found.wide.at_once) == (1, 4)
    assert found.least_wide == 8 * tuning.WIDE_ROW_VECTORS
    assert (found.backward.at_once, found.backward.plain_at_once) == (2, 1)
    assert schedules(32, rowwise=True, vector_bits=256).wide.at_once == 0
    text = written(derive(LSTM.definition, LSTM.choice), found).split("def backward(")[0]
    wide, narrow = text.split(f"if u >= {found.least_wide}:")[1].split("    else:\n        for r")
    # One loop for each elementary function, or one for all, whether values are saved or not.
    assert wide.count("for_each_unit(") == 5
    assert narrow.count("for_each_unit(") == 1


FACTOR = 0.5


def test_check_cell_compares_with_the_equations_on_arrays(monkeypatch):
    @equations("h")
    def Changing(z, prev):
        return FACTOR * prev.h + tanh(z.h)

    check_cell(Changing(4))
    monkeypatch.setattr(inspect.getmodule(line_of), "FACTOR", 0.75)
    with pytest.raises(
        AssertionError, match="compiled cell differs from its equations on NumPy arrays: outputs differ"
    ):
        check_cell(Changing(4))


def test_using_compiles_a_named_activation_in(rng):
    cls = Everything.using(activation="gelu")
    assert cls is Everything.using(activation="gelu")
    assert "value_gelu" in cls.source()
    assert "activate_row" not in cls.source()
    assert Everything.using(activation="tanh") is Everything
    cell, row_by_row = cls(5), Everything.with_activations(5, {"activation": "gelu"})
    weights = weights_of(cell, 3, rng, "float64")
    x = rng.normal(size=(2, 4, 3))
    states = [rng.normal(size=(2, 5)) for _ in range(2)]
    results = [
        layer_of(c, weights, "float64").forward(x, initial_state=states)[0] for c in (cell, row_by_row)
    ]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    check_cell(cell)


def test_using_refuses_what_can_not_be_compiled_in():
    with pytest.raises(
        TypeError, match="act='gelu' is not an activation of Everything: known are 'activation', 'gate'"
    ):
        Everything.using(act="gelu")
    with pytest.raises(ValueError, match="activation='softmax' mixes the units of a row"):
        Everything.using(activation="softmax")


def test_slstm_is_stable_where_its_gates_overflow(rng):
    cell = SLSTM(n_units=4)
    weights = weights_of(cell, 3, rng, "float32")
    layer = layer_of(cell, weights._replace(kernel=weights.kernel * 1e4), "float32")
    x = rng.normal(size=(3, 50, 3)).astype("f")
    (out, *states), cache = layer.forward(x, training=True)
    assert np.isfinite(out).all()
    assert (np.abs(out) <= 1).all()
    assert (states[2] >= 1).all()  # the normaliser
    assert np.isfinite(layer.backward([np.ones_like(out), None, None, None, None], cache)).all()


def test_min_lstm_gates_that_are_zero_keep_no_nan(rng):
    cell = MinLSTM(n_units=3)
    weights = weights_of(cell, 1, rng, "float32")
    layer = layer_of(cell, weights._replace(kernel=np.full((1, 9), -1e4, "f")), "float32")
    assert np.isfinite(layer.forward(np.ones((2, 5, 1), "f"))[0][0]).all()


# ----------------------------------------------------------------------------------------- the graph


def evaluate(node: Node, values: dict[str, float]) -> float:
    """The value of a node in plain Python, by the text that kernels get."""
    names = {"tanh": math.tanh, "exp": math.exp, "expm1": math.expm1, "log": math.log, "log1p": math.log1p}
    names |= {"sqrt": math.sqrt, "sigmoid": lambda x: 1 / (1 + math.exp(-x))}
    if node.op == "const":
        return node.args[0]
    if not parents(node):
        return values[node.op]
    arguments = [evaluate(a, values) for a in parents(node)]
    text = OPERATIONS[node.op].text.format(*(f"x{i}" for i in range(len(arguments))))
    return eval(text, {**names, **{f"x{i}": v for i, v in enumerate(arguments)}})


@pytest.mark.parametrize(
    "expression",
    [
        lambda a, b: a * b - b / a,
        lambda a, b: -a + abs(b) * (a**3),
        lambda a, b: np.tanh(a) * np.exp(-b),
        lambda a, b: sigmoid(a * b) + sigmoid(a * b) ** 2,
        lambda a, b: np.log(a * a + 1) - np.log1p(b * b) + np.expm1(a),
        lambda a, b: np.sqrt(a * a + b * b),
        lambda a, b: np.where((a < b) | (b >= 2), a * b, a - b),
        lambda a, b: np.maximum(a, b) * np.minimum(a, 0.25) + np.maximum(0.1, b),
        lambda a, b: np.clip(a, -0.5, 0.5) * np.square(b),
        lambda a, b: where(~(a > 0) & (b <= 1), 1 / (2 + a), b),
    ],
)
@pytest.mark.parametrize("a", [-0.7, 0.3, 1.2])
@pytest.mark.parametrize("b", [-0.4, 2.1])
def test_derivative_matches_finite_difference(expression, a, b):
    graph = Graph()
    nodes = graph.node("a"), graph.node("b")
    result = graph.constant(expression(*nodes))
    values = {"a": a, "b": b, "ds": 1.0}
    assert evaluate(result, values) == pytest.approx(
        float(expression(np.float64(a), np.float64(b))), rel=1e-14
    )
    grads = differentiate([(result, graph.node("ds"))])
    for node in nodes:
        at = {sign: evaluate(result, {**values, node.op: values[node.op] + sign * 1e-6}) for sign in (-1, 1)}
        assert evaluate(grads.get(node, graph.zero), values) == pytest.approx(
            (at[1] - at[-1]) / 2e-6, abs=1e-8
        )


@pytest.mark.parametrize(("a", "b"), [(math.nan, 1.0), (1.0, math.nan)])
def test_maximum_and_minimum_keep_nan(a, b):
    graph = Graph()
    x, y = graph.node("a"), graph.node("b")
    values = {"a": a, "b": b}
    assert math.isnan(evaluate(maximum(x, y), values))
    assert math.isnan(evaluate(minimum(x, y), values))
    if math.isnan(a):
        assert math.isnan(evaluate(maximum(x, 0), values))
        assert math.isnan(evaluate(minimum(1.0, x), values))


def test_equal_expressions_are_one_node():
    graph = Graph()
    a, b = graph.node("a"), graph.node("b")
    assert tanh(a * b) is tanh(a * b)
    assert a + 0 is a
    assert 1 * a is a
    assert a * 0 is graph.zero
    negative = -a
    assert -negative is a
    assert graph.call("add", 2, 3) is graph.constant(5)


def test_what_is_saved_are_values_of_costly_functions():
    saved = [node.op for node in derive(MinGRU.definition, MinGRU.choice).saved]
    assert sorted(saved) == ["sigmoid", "z"]  # the candidate is linear: z itself
    saved = [node.op for node in derive(EchoState.definition, EchoState.choice).saved]
    assert saved == ["tanh"]


def test_parameters_alone_are_computed_once_and_not_for_each_row():
    before, rows = FastGRNN.source().split("for r in range(")[:2]
    assert before.count("for_each_unit") == 1
    assert "sigmoid" in before
    assert "for_each_unit" in rows


# ----------------------------------------------------------------------------------------- errors


def line_of(step, text: str) -> int:
    """Line of the file on which a function has a text."""
    lines, first = inspect.getsourcelines(step)
    return first + next(i for i, line in enumerate(lines) if text in line)


def branch(z, prev):
    if z.h > 0:
        return z.h
    return prev.h


def ternary_and(z, prev):
    return z.h > 0 and prev.h


def unknown_math(z, prev):
    return math.sinh(z.h)


def unknown_numpy(z, prev):
    return np.arctan(z.h) + prev.h


def loop_over_units(z, prev):
    total = 0
    for j in range(len(z.h)):
        total += z.h[j]
    return total


def indexed(z, prev):
    return z.h[0] * prev.h


def product(z, prev):
    return prev.h @ np.ones((3, 3)) + z.h


def array(z, prev):
    return z.h * np.ones(5) + prev.h


def several_values(z, prev):
    return np.stack([z.h, prev.h])


def loop_until(z, prev):
    h = prev.h
    while abs(h) > 1:
        h = h / 2
    return h + z.h


def as_integer(z, prev):
    return int(z.h) + prev.h


def undeclared_gate(z, prev):
    return z.hh + prev.h


def undeclared_state(z, prev):
    return z.h + prev.c


def reads_parameter(z, prev, p):
    return z.h + prev.h * p.w


def nothing(z, prev):
    z.h + prev.h


def too_many(z, prev):
    return z.h, prev.h


def sets_a_state(z, prev):
    prev.h = z.h
    return prev.h


def text(z, prev):
    return z.h + "1"


def called(z, prev):
    return z.h(prev.h)


def power(z, prev):
    return z.h**2.5


def builtin_max(z, prev):
    return max(z.h, prev.h)


ERRORS = {
    branch: ("if z.h > 0", "write where(condition, a, b) instead of if"),
    ternary_and: ("and prev.h", "& | ~ instead of and, or, not"),
    unknown_math: ("math.sinh", "use functions of fastrnn.cells"),
    unknown_numpy: ("np.arctan", "numpy.arctan is not known to the equations: did you mean"),
    loop_over_units: ("for j in range", "leave out the index or the loop over units"),
    indexed: ("z.h[0]", "leave out the index or the loop over units"),
    product: ("prev.h @", "z already contains x @ W + h_prev @ U + b"),
    array: ("np.ones(5)", "an array of shape (5,) is used in the equations"),
    several_values: ("np.stack", "numpy.stack is not known to the equations, which are those of one unit"),
    loop_until: ("while abs(h) > 1", "it can't branch on a value"),
    as_integer: ("int(z.h)", "use functions of fastrnn.cells"),
    undeclared_gate: ("z.hh", "z.hh: 'hh' is not declared as a gate, did you mean 'h'"),
    undeclared_state: ("prev.c", "prev.c: 'c' is not declared as a state, known are 'h'"),
    reads_parameter: ("p.w", "p.w: 'w' is not declared as a further parameter (extra=), none is declared"),
    nothing: (None, "the step returns nothing, 1 state is declared: return new h"),
    too_many: (None, "the step returns 2 values, 1 state is declared: return new h"),
    sets_a_state: ("prev.h = z.h", "prev.h is set: a step returns its new states instead"),
    text: ('"1"', "'1' is not a number"),
    called: (
        "z.h(prev.h)",
        "is called as a function: only activations, and gates in late=, can be called",
    ),
    power: ("**2.5", "power 2.5: only integer powers from 1 to 8 and 0.5 are known"),
    builtin_max: ("max(z.h", "maximum(a, b) and minimum(a, b) instead of max and min"),
}


@pytest.mark.parametrize("step", ERRORS, ids=lambda f: f.__name__)
def test_error_at_definition_shows_the_line_and_what_to_write(step):
    text, message = ERRORS[step]
    with pytest.raises(EquationError) as caught:
        equations("h")(step)
    shown = str(caught.value)
    assert message in shown
    assert shown.startswith("test_equations.py, line ")
    assert f"in the equations of {step.__name__}:" in shown
    if text is not None:
        assert caught.value.line == line_of(step, text)
        assert text in shown.splitlines()[1]


def use_h(z, prev):
    return z.h + prev.h


def needs_default(z, prev, leak):
    return z.h


def no_number(z, prev, leak="big"):
    return z.h


def variadic(z, *rest):
    return z.h


@pytest.mark.parametrize(
    ("arguments", "step", "kind", "message"),
    [
        ({"gates": ""}, use_h, ValueError, r"gates='': give at least one name"),
        ({"gates": "h", "states": ""}, use_h, ValueError, r"states='': give at least one name"),
        ({"gates": "h h"}, use_h, ValueError, r"gates='h h' has a name twice"),
        ({"gates": "h 2"}, use_h, ValueError, r"gates='h 2': '2' can't be a name"),
        ({"gates": "h g", "late": "h"}, use_h, ValueError, r"late='h': give the last of gates='h g'"),
        (
            {"gates": "h", "late": "h", "recurrent": False},
            use_h,
            ValueError,
            r"late='h' names recurrent products",
        ),
        ({"gates": "h", "start": {"g": 1}}, use_h, ValueError, r"start\['g'\] must name one gate"),
        ({"gates": "h q"}, use_h, EquationError, r"gate 'q' is declared, but the returned states do not"),
        (
            {"gates": "h", "extra": "w"},
            use_h,
            EquationError,
            r"parameter 'w' is declared, but the returned states do not",
        ),
        (
            {"gates": "h", "late": "h"},
            lambda z, prev: prev.h,
            EquationError,
            r"gate 'h' is declared, but the returned states do not",
        ),
        (
            {"gates": "h"},
            needs_default,
            TypeError,
            r"parameter 'leak' is none of z, u, prev, p, so it needs a default",
        ),
        (
            {"gates": "h"},
            no_number,
            TypeError,
            r"leak='big' is neither a function of fastrnn.cells nor a number",
        ),
        ({"gates": "h"}, variadic, TypeError, r"parameter \*rest has no meaning"),
        ({"gates": "h"}, 3, TypeError, r"equations\(\) decorates a function, got 3"),
    ],
)
def test_bad_declaration(arguments, step, kind, message):
    with pytest.raises(kind, match=message):
        equations(**arguments)(step)
