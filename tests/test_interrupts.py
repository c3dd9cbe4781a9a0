"""Ctrl-C: delayed while code is compiled, raised afterwards; it never causes wrong numbers, a hang or a crash."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from benchmarks import interrupts
from fastrnn.engine.runtime import interrupts as held_back
from fastrnn.engine.runtime.interrupts import held
from fastrnn.engine.runtime.jit import DISABLED
from tests.limits import HANG_SECONDS
from tests.scripts import run_script

needs_signals = pytest.mark.skipif(
    os.name != "posix", reason="SIGINT can't be sent to a process by its number"
)
needs_jit = pytest.mark.skipif(DISABLED, reason="nothing is compiled")


def test_interrupt_is_raised_at_the_end_of_the_block():
    reached = []

    def work():
        with held():
            signal.raise_signal(signal.SIGINT)
            with held():  # nested blocks act as one
                reached.append(1)
            reached.append(2)
        reached.append(3)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert held_back._current is None


def test_interrupt_after_an_exception_is_raised_with_it_as_its_context():
    def work():
        with held():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("in the block")

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert isinstance(raised.value.__context__, ValueError)


@needs_signals
def test_handlers_of_other_signals_wait_too_and_all_are_run(monkeypatch):
    class TimeLimitError(Exception):
        pass

    calls = []

    def limit(number, frame):
        calls.append("alarm")
        raise TimeLimitError

    before = (
        signal.signal(signal.SIGALRM, limit),
        signal.signal(signal.SIGTERM, lambda *_: calls.append("term")),
    )

    def work():
        with held():
            signal.raise_signal(signal.SIGALRM)
            signal.raise_signal(signal.SIGTERM)
            assert calls == []

    try:
        with pytest.raises(TimeLimitError):
            work()
        assert calls == ["alarm", "term"]
        assert signal.getsignal(signal.SIGALRM) is limit
    finally:
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_other_threads_hold_nothing_back():
    seen = []

    def enter():
        with held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")


def _exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_interrupt_before_a_fork_inside_the_block_is_raised_in_both_processes():
    child, raised = -1, False
    try:
        with held():
            signal.raise_signal(signal.SIGINT)
            child = os.fork()
    except KeyboardInterrupt:
        raised = signal.getsignal(signal.SIGINT) is signal.default_int_handler and held_back._current is None
    finally:
        if child == 0:
            os._exit(0 if raised else 1)
    assert raised
    assert _exit_code(child) == 0


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_of_another_thread_is_not_inside_the_block():
    codes = []

    def fork():
        child = os.fork()
        if child == 0:
            ended = 1
            try:
                if (
                    signal.getsignal(signal.SIGINT) is signal.default_int_handler
                    and held_back._current is None
                ):
                    signal.raise_signal(signal.SIGINT)  # raised at once: nothing is held back
            except KeyboardInterrupt:
                ended = 0
            finally:
                os._exit(ended)
        codes.append(_exit_code(child))

    def work():
        with held():
            signal.raise_signal(signal.SIGINT)
            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert codes == [0]


COMPILE = """
import os, signal
import numpy as np
from fastrnn.engine.numba_private import dispatcher
from fastrnn.layers import GRU
from tests import naive

compile_ = dispatcher.CPUDispatcher.compile
sent = []
def interrupted(self, sig):
    # In the middle of the compiler, with its lock taken.
    if len(sent) < 3:
        sent.append(self.py_func.__name__)
        os.kill(os.getpid(), signal.SIGINT)
    return compile_(self, sig)
dispatcher.CPUDispatcher.compile = interrupted
layer = GRU(5, return_sequences=True)
x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("f")
mask = np.arange(6) < np.array([6, 2, 0, 3])[:, None]
raised = 0
while True:
    try:
        y = layer(x, mask=mask)
        break
    except KeyboardInterrupt:
        raised += 1
assert 1 <= raised <= 3, raised
assert not dispatcher.compiler_lock.is_locked()
expected, _ = naive.recurrent("gru", x, layer.get_weights(), mask=mask, return_sequences=True)
np.testing.assert_allclose(y, expected, atol=1e-6)
"""


@needs_jit
@needs_signals
def test_interrupts_in_the_compiler_leave_the_next_call_right(tmp_path):
    done = run_script(COMPILE, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]


LONG = """
import os, signal, sys, time
import numpy as np
from fastrnn.engine.runtime import threads
from fastrnn.layers import LSTM
from tests.limits import HANG_SECONDS

signal.signal(signal.SIGINT, signal.default_int_handler)
layer = LSTM(128, seed=0, return_sequences=sys.argv[1] == "sequences")
x = np.random.default_rng(0).normal(size=(32, 5000, 16)).astype("f")
small = x[:4, :6]
before = layer(small)
begun = []

def watched(work, stop):
    # The helper thread sends the signal when it begins, so there is a call to interrupt on every machine.
    def interrupted():
        begun.append(time.perf_counter())
        if interrupting:
            os.kill(os.getpid(), signal.SIGINT)
        work()
    plain(interrupted, stop)

plain, threads.run_interruptibly = threads.run_interruptibly, watched
for training in (False, True):
    interrupting = False
    layer(x, training=training)  # compiles
    start = time.perf_counter()
    layer(x, training=training)
    whole = time.perf_counter() - start
    interrupting = True
    # Other processes may delay the answer, and all of the attempts are not to fail.
    for attempt in range(20):
        try:
            layer(x, training=training)
        except KeyboardInterrupt:
            answered = time.perf_counter() - begun[-1]
        else:
            raise AssertionError("the signal did not interrupt the call")
        if answered < whole / 4:
            break
    else:
        raise AssertionError(f"Ctrl-C was answered after {answered} s, a call takes {whole} s")
    assert len(begun) == 2 + attempt + 1, "the call was not long"
    begun.clear()
np.testing.assert_array_equal(layer(small), before)
"""


@needs_jit
@needs_signals
@pytest.mark.parametrize("outputs", ["last", "sequences"])
def test_long_call_is_interrupted_between_chunks(outputs):
    done = run_script(LONG, outputs)
    assert done.returncode == 0, done.stderr[-3000:]


STOPPED = """
import numpy as np
from fastrnn.engine.recurrence import run
from fastrnn.layers import LSTM

outputs = []
helped = run.threads.run_interruptibly
def stopped(work, stop):
    # As if Ctrl-C had come before the first chunk.
    stop()
    helped(work, stop)
    raise KeyboardInterrupt
run.threads.run_interruptibly = stopped
plain = run._launch_interruptibly
def noted(entries, arguments, *how):
    for array in arguments[9:11]:  # outputs and final states
        array.fill(np.nan)
        outputs.append(array)
    return plain(entries, arguments, *how)
run._launch_interruptibly = noted
layer = LSTM(128, seed=0, return_sequences=True)
x = np.random.default_rng(0).normal(size=(32, 5000, 16)).astype("f")
try:
    layer(x)
except KeyboardInterrupt:
    out, final = outputs
    print(out.shape[0] == 32 * 5000, np.isnan(out).all(), np.abs(np.nan_to_num(final)).max())
"""


@needs_jit
def test_call_that_is_stopped_before_its_first_chunk_computes_no_step():
    done = run_script(STOPPED)
    assert done.stdout.split() == ["True", "True", "0.0"], done.stderr[-3000:]


@needs_jit
@needs_signals
def test_random_interrupts_end_in_keyboard_interrupt_or_the_right_numbers():
    """A few of them; ``python -m benchmarks.interrupts --count 300`` makes many, of all kinds."""
    outcomes: list[interrupts.Outcome] = []
    for seed in range(20):  # the moments are late if the machine has become faster since it was measured
        outcomes += interrupts.run(
            9,
            ["mask", "recurrent_dropout", "activations"],
            compiling=0,
            seed=seed,
            timeout=HANG_SECONDS / 3,
        )
        if any(outcome.kind == "interrupted" for outcome in outcomes):
            break
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert any(outcome.kind == "interrupted" for outcome in outcomes)


WAITS = """
import os, signal, threading, time
from fastrnn.engine.runtime.helper import Helper
from fastrnn.engine.runtime.threads import run_interruptibly

signal.signal(signal.SIGINT, signal.default_int_handler)
stopped, ended = threading.Event(), []
def work():
    os.kill(os.getpid(), signal.SIGINT)
    stopped.wait()
    time.sleep(0.5)  # the rest of a chunk, in which memory of the call is written to
    ended.append(True)
try:
    run_interruptibly(work, stopped.set)
except KeyboardInterrupt:
    print(ended)
never = Helper(lambda: ended.append(False))
never.finish()
never.start()
never._thread.join()
print(ended)
"""


@needs_signals
def test_an_interrupted_call_ends_after_its_helper():
    """`Thread.join` that Ctrl-C has interrupted returns at once when it is called again, while the thread still runs."""
    done = run_script(WAITS)
    assert done.stdout.split() == ["[True]", "[True]"], done.stderr[-2000:]
