"""Machine code as kernels get it, to look at: code from the kernels' cache can't be inspected."""

from __future__ import annotations

from typing import Any


def assembly(dispatcher: Any, signature: Any) -> str:
    """Of a kernel, compiled anew for a signature in the way that `engine.jit.jit` does it."""
    import numba

    from fastrnn.engine.compiling import Pipeline

    fresh = numba.jit(pipeline_class=Pipeline, **dispatcher.targetoptions)(dispatcher.py_func)
    fresh.compile(signature)
    return fresh.inspect_asm(signature)
