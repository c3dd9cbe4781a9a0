"""Names and machine code of compiled functions. Code from the kernels' cache can't be inspected, so it is compiled again."""

from __future__ import annotations

from typing import Any

#: The beginning of a script whose `compiled` lists the names of the functions that the process compiles.
LISTEN = """
import hashlib, json, sys
import numpy as np
from numba.core import event

compiled = []
class Listener(event.Listener):
    def on_start(self, e): compiled.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e): pass
event.register("numba:compile", Listener())
"""


def assembly(dispatcher: Any, signature: Any) -> str:
    """Of a kernel, compiled anew for a signature in the way that `engine.runtime.jit.jit` does it."""
    from fastrnn.engine.numba_private.dispatcher import Dispatcher

    pipeline = dispatcher._compiler.pipeline_class
    fresh = Dispatcher(dispatcher.py_func, targetoptions=dispatcher.targetoptions, pipeline_class=pipeline)
    fresh.compile(signature)
    return fresh.inspect_asm(signature)
