"""Functions compiled once on their own, which kernels reach through a symbol.

Numba copies everything a kernel calls into the kernel's own module and optimises it there again. That is right for
small bodies and ruinous for big ones: the register tiles alone would cost every kernel 1.6 s. A function decorated
with :func:`outline` is compiled and cached once, under the C calling convention, and its address is given to LLVM's
linker under a symbol; kernels hold an external reference to that symbol, and a kernel loaded from disk has its
references provided before it is linked (`jit._Cache` asks for that).
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from llvmlite import binding
from numba import types
from numba.core.ccallback import CFunc
from numba.extending import overload

from fastrnn.engine import jit as _jit

__all__ = ["outline"]


class _Cache(_jit._Cache):
    """The same cache, for functions that are keyed by a signature instead of a tuple of argument types."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        return super().load_overload(sig.args, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        super().save_overload(sig.args, data)


def outline(name: str, result: Any, arguments: tuple) -> Callable[[Callable], Any]:
    """Compile the decorated function once, under the symbol ``fastrnn_<name>``.

    Parameters
    ----------
    name : str
        Unique in the library.
    result, arguments
        Numba types of the result and of the arguments: plain numbers only, such as `intp` addresses.
    """
    signature = result(*arguments)
    symbol = f"fastrnn_{name}"

    def decorate(fn: Callable) -> Any:
        if _jit.DISABLED:
            return fn
        compiled: list[CFunc] = []

        def provide() -> None:
            if not compiled:
                options = {key: value for key, value in _jit.OPTIONS.items() if key != "nogil"}
                body = _jit.stamped(FunctionType(fn.__code__, fn.__globals__, symbol), options)
                function = CFunc(body, (arguments, result), locals={}, options=options)
                try:
                    function._cache = _Cache(body)
                except (RuntimeError, OSError) as error:
                    _jit._warn_no_cache(error)
                function.compile()
                compiled.append(function)
                binding.add_symbol(symbol, function.address)

        _jit.EXTERNALS[symbol] = provide
        external = types.ExternalFunction(symbol, signature)

        def call(*args: Any) -> Any:
            raise TypeError(f"{fn.__name__} can only be called from compiled code")

        @overload(call, strict=False)
        def typed(*args):  # noqa: ANN002, ANN202
            provide()
            return lambda *args: external(*args)

        return call

    return decorate
