"""LLVM's work in threads: what callers see is finished code, or an error after which the next call compiles again."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from fastrnn.engine.numba_private import services
from fastrnn.engine.runtime.jit import DISABLED, STOCK, jit
from fastrnn.engine.runtime.linking import linked
from tests.scripts import run_script

pytestmark = pytest.mark.skipif(DISABLED or STOCK, reason="only the private path has such threads")


def make_kernels():
    """A function that only kernels call, and a kernel that calls it, not yet compiled."""

    @linked
    @jit(inner=True, allocates=False)
    def add_one(x):
        for i in range(x.shape[0]):
            x[i] += 1.0

    @jit(allocates=False)
    def add_two(x):
        add_one(x)
        add_one(x)

    for kernel in (add_one.dispatcher, add_two):
        kernel._cache = type(
            "NoCache", (), {"load_overload": lambda *a: None, "save_overload": lambda *a: None}
        )()
    return add_one.dispatcher, add_two


@pytest.fixture
def made(monkeypatch):
    """The threads in which code was made."""
    threads = []
    translate = services.background.Translation._translate

    def noted(self):
        threads.append(threading.current_thread())
        return translate(self)

    monkeypatch.setattr(services.background.Translation, "_translate", noted)
    return threads


def test_code_is_made_in_threads_that_have_ended_when_the_kernel_runs(made):
    _, kernel = make_kernels()
    x = np.zeros(3)
    kernel(x)
    assert made
    assert threading.current_thread() not in made
    assert not any(thread.is_alive() for thread in made)
    assert not services.background._pending
    np.testing.assert_array_equal(x, 2.0)


def test_code_is_made_without_threads_where_the_system_has_no_more(made, monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    _, kernel = make_kernels()
    x = np.zeros(3)
    kernel(x)
    assert set(made) == {threading.current_thread()}
    np.testing.assert_array_equal(x, 2.0)


def test_failure_in_a_thread_is_raised_by_the_call_and_the_next_call_is_right(monkeypatch):
    inner, kernel = make_kernels()
    x = np.zeros(3)

    def fails(self):
        raise MemoryError("no room for code")

    with monkeypatch.context() as patched:
        patched.setattr(services.background.Translation, "_translate", fails)
        with pytest.raises(MemoryError, match="no room"):
            kernel(x)
    assert not services.background._pending
    assert not inner.overloads
    assert not kernel.overloads
    np.testing.assert_array_equal(x, 0.0)
    kernel(x)
    np.testing.assert_array_equal(x, 2.0)


FORK = """
import os, signal, threading, time
import numpy as np
from fastrnn.engine.numba_private import background
from tests.test_background import make_kernels

translate, begun = background.Translation._translate, threading.Event()
def slowly(self):
    begun.set()
    time.sleep(0.3)
    return translate(self)
background.Translation._translate = slowly
thread = threading.Thread(target=make_kernels()[1], args=(np.zeros(3),))
thread.start()
begun.wait()
child = os.fork()
x = np.zeros(3)
if child == 0:
    signal.alarm(300)  # ends it if it waits for a thread that it does not have
    make_kernels()[1](x)
    os._exit(int(x.sum()))
_, status = os.waitpid(child, 0)
thread.join()
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_child_forked_while_a_thread_makes_code_can_compile():
    done = run_script(FORK)
    assert done.stdout.split() == ["6"], done.stderr[-3000:]
