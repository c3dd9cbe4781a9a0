"""The stock path: kernels compiled by public names of Numba only (`numba.njit`, `numba.extending`, `numba.types`).

A :class:`Kernel` is what Python calls; a *part* is what kernels call, by `numba.extending.overload`. Code is not kept on
disk: Numba's own files don't say of which cells they were made, so a changed cell would get old code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from fastrnn.engine.numba_private.redirect import Redirect

__all__ = ["Kernel", "body_of", "callable_in_kernels"]

#: Options that are Numba's own, and documented.
_PUBLIC = ("nogil", "error_model", "boundscheck", "fastmath")


class Kernel:
    """A function that is compiled at the first call from Python with arguments of new types.

    Parameters
    ----------
    function : function
    options : dict
        Compile options; those that are not public are left out.
    """

    #: Makes the context in which code is compiled.
    guard: Callable[[], Any] = contextlib.nullcontext

    def __init__(self, function: Callable, options: dict[str, Any]) -> None:
        self.py_func = function
        self.targetoptions = options
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self._compiled = njit(**_public(options))(function)
        self._seen: set[tuple] = set()

    def __call__(self, *arguments: Any) -> Any:
        kinds = tuple(map(_kind, arguments))
        if kinds in self._seen:
            return self._compiled(*arguments)
        with self.guard():
            result = self._compiled(*arguments)
            self._seen.add(kinds)
        return result


def _kind(argument: Any) -> Any:
    """What tells the type of an argument from others'."""
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        return argument.dtype, argument.ndim, flags.c_contiguous, flags.f_contiguous, flags.writeable
    if isinstance(argument, tuple):
        return type(argument), *map(_kind, argument)
    return type(argument)


def _public(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _PUBLIC if name in options}


def callable_in_kernels(kernel: Kernel) -> Callable:
    """A function that is `kernel` for calls from Python, and a part of kernels that call it."""

    def call(*arguments: Any) -> Any:
        return kernel(*arguments)

    body_of(call, kernel.targetoptions)(lambda *kinds: kernel.py_func)
    call.dispatcher = kernel  # type: ignore[attr-defined]
    return call


def body_of(fn: Callable, options: dict[str, Any], literal: bool = False) -> Callable[[Callable], Callable]:
    """Let kernels call `fn`; the decorated function maps the types of its arguments to a body, or None if there is none.

    See `pipeline.body_of`, which does the same on the private path.
    """

    def register(pick: Callable) -> Callable:
        @overload(fn, strict=False, prefer_literal=literal, jit_options=_public(options))
        def implementation(*kinds):
            body = pick(*(kinds if literal else map(types.unliteral, kinds)))
            return _redirected(body, len(kinds)) if isinstance(body, Redirect) else body

        return pick

    return register


def _redirected(body: Redirect, n_arguments: int) -> Callable:
    """The function that calls another one without the first arguments."""
    names = [f"a{k}" for k in range(n_arguments)]
    text = f"lambda {', '.join(names)}: function({', '.join(names[body.first :])})"
    return eval(text, {"function": body.function})
