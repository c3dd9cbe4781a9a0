"""Fewer questions to Numba's compiler: the answers are the same, and nothing of it stays behind."""

from __future__ import annotations

import inspect
from collections import Counter

import numpy as np
import pytest

from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import PLAIN
from fastrnn.engine.runtime.views import smaller
from tests.compiled import assembly

pytestmark = pytest.mark.skipif(PLAIN, reason="nothing is compiled by the engine's own pipeline")


def kernel(fn):
    """Compile a function as one of the package, which make no arrays."""
    fn.__module__ = "fastrnn"
    return jit(fn)


@kernel
def branches(x, n):
    """Variables that are assigned in one branch only, in a loop, once before it, and by a function that calls itself."""
    scale = x[0] * 2
    total = x.dtype.type(0)
    for i in range(n):
        twice = x[i] + x[i]
        if twice > scale:
            half = twice / 2
            total += half
        else:
            total -= twice
        total += scale
    return total if n > 0 else scale


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_of_every_kind_of_variable_are_right(n, dtype):
    x = np.array([1, -3, 5, 2, 9], dtype)
    assert branches(x, n) == branches.py_func(x, n)


def test_only_variables_that_are_assigned_once_are_values(monkeypatch):
    from numba.core import ir

    from fastrnn.engine.numba_private.front_end import _ValuesInRegisters

    found = []
    original = _ValuesInRegisters._find_singly_assigned_variable

    def noted(self):
        original(self)
        targets = [s.target.name for block in self.blocks.values() for s in block.find_insts(ir.Assign)]
        found.append((set(self._singly_assigned_vars), Counter(targets)))

    monkeypatch.setattr(_ValuesInRegisters, "_find_singly_assigned_variable", noted)
    branches(np.ones(3, "f"), 2)
    assembly(branches, branches.signatures[0])
    ((values, assigned),) = found
    assert {"x", "n", "scale", "half"} <= values
    assert all((name in values) == (assigned[name] == 1) for name in assigned if not name.startswith("$"))
    assert max(assigned.values()) > 1


@kernel
def mixed(a, b, c):
    """Operators on integers, numbers of both widths and truth values."""
    return (a // b + b % a) * c + (a > b) + smaller(a, b) / c


def test_types_of_repeated_operators_are_those_of_numba():
    for args in ((7, 2, 1.5), (2, 7, np.float32(0.5)), (np.int32(7), 3, 2.0)):
        assert mixed(*args) == pytest.approx(mixed.py_func(*args), rel=1e-7)


def test_functions_registered_while_a_kernel_is_compiled_are_found():
    @jit
    def caller(x):
        return late(x) + 1

    @inlined
    def late(x):
        return x * 3

    assert caller(2) == 7


def test_contexts_are_as_before_after_a_compilation():
    from numba.core.registry import cpu_target

    branches(np.ones(2), 1)
    for context in (cpu_target.typing_context, cpu_target.target_context):
        assert inspect.ismethod(context.refresh)
        assert "refresh" not in vars(context)
    assert "resolve_function_type" not in vars(cpu_target.typing_context)
