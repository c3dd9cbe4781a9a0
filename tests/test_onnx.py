"""The recurrent node cases that the onnx package builds (18 in version 1.23): its numbers in, its numbers out."""

from __future__ import annotations

import numpy as np
import pytest

from tests import naive
from tests.layer_cases import LAYER_NAMES, make_layer, run

onnx = pytest.importorskip("onnx")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

CELLS = {"RNN": "simple_rnn", "GRU": "gru", "LSTM": "lstm"}
# Which block of ONNX's rows stands for each of our gates: LSTM i o f c is our i f c o.
GATES = {"simple_rnn": [0], "gru": [0, 1, 2], "lstm": [0, 2, 3, 1]}


def collect():
    from onnx.backend.test.case import node as node_cases
    from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401 - importing a module builds its cases

    # The public collect_testcases would build those of every operator, which takes seconds and warns.
    return {
        case.name: case for case in node_cases._NodeTestCases if case.model.graph.node[0].op_type in CELLS
    }


CASES = collect()


class Node:
    """One case: the operator's inputs by name, its attributes, and the expected outputs by name."""

    def __init__(self, case):
        (node,) = case.model.graph.node
        given, expected = (list(arrays) for arrays in case.data_sets[0])
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
        self.inputs = dict.fromkeys(names)
        for name, actual in zip(names, node.input, strict=False):
            if actual:
                self.inputs[name] = np.asarray(given.pop(0))
        self.outputs = {
            name: np.asarray(expected.pop(0))
            for name, actual in zip(["Y", "Y_h", "Y_c"], node.output, strict=False)
            if actual
        }
        self.cell = CELLS[node.op_type]
        self.units = self.attributes["hidden_size"]
        self.direction = self.attributes.get("direction", b"forward").decode()
        self.batch_major = bool(self.attributes.get("layout", 0))

    @property
    def reset_after(self):
        return bool(self.attributes.get("linear_before_reset", 0))

    def weights(self, direction):
        order = GATES[self.cell]

        def blocks(a):
            parts = np.split(a, len(order))
            return np.concatenate([parts[g] for g in order])

        arrays = [blocks(self.inputs[name][direction]).T.copy() for name in ("W", "R")]
        bias = self.inputs["B"]
        n = len(order) * self.units
        halves = np.zeros((2, n), np.float32) if bias is None else bias[direction].reshape(2, n)
        both = np.stack([blocks(half) for half in halves])
        return [*arrays, both if self.cell == "gru" and self.reset_after else both.sum(axis=0)]

    def run(self, run_direction):
        """``{"Y": ..., "Y_h": ..., "Y_c": ...}`` in ONNX's layout from one call a direction."""
        x = self.inputs["X"] if self.batch_major else self.inputs["X"].swapaxes(0, 1)
        lengths = self.inputs["sequence_lens"]
        mask = None if lengths is None else np.arange(x.shape[1]) < lengths[:, None]
        backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[self.direction]
        sequences, finals = [], []
        for d, back in enumerate(backwards):
            initial = [self.inputs[k] for k in ("initial_h", "initial_c") if self.inputs[k] is not None]
            initial = [s[:, d] if self.batch_major else s[d] for s in initial] or None
            y, states = run_direction(x, self.weights(d), back, mask, initial, d)
            sequences.append(y[:, ::-1] if back else y)
            finals.append(states)
        y = np.stack(sequences, axis=2)  # (batch, time, direction, units)
        found = {"Y": y if self.batch_major else y.transpose(1, 2, 0, 3)}
        for name, k in (("Y_h", 0), ("Y_c", 1))[: len(finals[0])]:
            found[name] = np.stack([s[k] for s in finals], axis=1 if self.batch_major else 0)
        return found

    def check(self, found):
        for name, expected in self.outputs.items():
            assert found[name].shape == expected.shape
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_all_cases_are_there():
    """Every kind that the operators have: cells, directions, layouts, initial states, peepholes."""
    assert len(CASES) >= 18
    nodes = [Node(case) for case in CASES.values()]
    assert {node.cell for node in nodes} == set(LAYER_NAMES)
    assert {node.direction for node in nodes} >= {"forward", "reverse", "bidirectional"}
    assert {node.batch_major for node in nodes} == {False, True}
    for name in ("B", "sequence_lens", "initial_h", "P"):
        assert any(node.inputs[name] is not None for node in nodes), name


@pytest.mark.parametrize("name", CASES)
def test_naive_matches_onnx(name):
    node = Node(CASES[name])
    peepholes = node.inputs["P"]

    def run_direction(x, weights, backwards, mask, initial, d):
        cell = node.cell
        if peepholes is not None:
            i, o, f = np.split(peepholes[d], 3)
            cell, weights = "peephole_lstm", [*weights, np.stack([i, f, o])]
        return naive.recurrent(
            cell,
            x,
            weights,
            initial_state=initial,
            mask=mask,
            go_backwards=backwards,
            return_sequences=True,
            zero_output_for_mask=True,
            reset_after=node.reset_after,
        )

    node.check(node.run(run_direction))


@pytest.mark.parametrize("name", CASES)
def test_layer_matches_onnx(name):
    node = Node(CASES[name])
    peepholes = node.inputs["P"]

    def run_direction(x, weights, backwards, mask, initial, d):
        cell, options = node.cell, {"reset_after": node.reset_after} if node.cell == "gru" else {}
        if peepholes is not None:
            i, o, f = np.split(peepholes[d], 3)
            cell, weights = "peephole_lstm", [*weights, np.stack([i, f, o])]
        layer = make_layer(
            cell,
            node.units,
            weights,
            x.shape[2],
            np.float32,
            return_sequences=True,
            return_state=True,
            go_backwards=backwards,
            zero_output_for_mask=True,
            **options,
        )
        (y, *states), _ = run(layer, x, mask=mask, initial_state=initial)
        return y, states

    node.check(node.run(run_direction))
