"""One place for compile options, the disk cache, and the stubs that cells implement.

Every kernel is a module-level function decorated with :func:`jit`. It compiles at its first call, not at
import, and the machine code is kept on disk, so a second process compiles nothing. A kernel that serves many
cells calls *stubs* (made by :func:`stub`), and each cell registers its bodies with :func:`implements`; the
type of the first argument, a NamedTuple class, picks the body, in compiled code and in plain Python alike.
With ``NUMBA_DISABLE_JIT=1`` everything here runs as plain Python.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from numba import config

from fastrnn.engine.numba_private import pipeline
from fastrnn.engine.numba_private.dispatcher import Dispatcher
from fastrnn.engine.runtime import cache
from fastrnn.engine.runtime.interrupts import held

__all__ = ["FASTMATH", "body_of", "implements", "inlined", "jit", "register_sources", "stub"]

#: Additions may be reordered and fused, divisions may become products, the sign of zero is free. Not in the
#: set: `nnan` and `ninf`, because a NaN in the data must come out as NaN; and `afn`, which loosens functions.
FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})

DISABLED = bool(config.DISABLE_JIT)  # type: ignore[attr-defined]

#: The compile options of all kernels. They allocate nothing, so no references are counted; no C code calls them.
OPTIONS: dict[str, Any] = {
    "nopython": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": set(FASTMATH),
    "_nrt": False,
    "no_cfunc_wrapper": True,
}

Dispatcher.guard = held

#: Variables that change the code which our intrinsics emit.
_CODE_VARIABLES = ("FASTRNN_VECTOR_BITS",)


def jit(
    fn: Callable | None = None,
    *,
    fastmath: bool = True,
    allocates: bool | None = None,
    inner: bool = False,
) -> Any:
    """Compile `fn` at its first call with the options that all kernels share, and keep the result on disk.

    Parameters
    ----------
    fn : function
        A module-level function. One that closes over other functions would never hit the disk cache.
    fastmath : bool
        Allow the reorderings of :data:`FASTMATH`. Turn it off where the order of operations is the point.
    allocates : bool, optional
        The function may make arrays; by default those outside this package may.
    inner : bool
        Only kernels call the function: it can't be called from Python.

    Returns
    -------
    dispatcher
        The compiled function, or `fn` itself where `NUMBA_DISABLE_JIT` is set.
    """
    if fn is None:
        return functools.partial(jit, fastmath=fastmath, allocates=allocates, inner=inner)
    if DISABLED:
        return fn
    options = {
        **OPTIONS,
        "fastmath": OPTIONS["fastmath"] if fastmath else False,
        "_nrt": not pipeline.is_ours(fn) if allocates is None else allocates,
        "no_cpython_wrapper": inner,
    }
    dispatcher = Dispatcher(stamped(fn, options), targetoptions=options, pipeline_class=pipeline.Pipeline)
    dispatcher._cache = cache.Cache(fn)
    return dispatcher


def stamped(fn: Callable, options: dict[str, Any]) -> Callable:
    """Append a digest of all sources and of the compile options to the qualified name of `fn`.

    Numba names cache files after the qualified name and stamps them with the function's own file only. With the
    digest in the name, a change of any other engine or cell file never leads to stale code.
    """
    described = [(key, sorted(value) if isinstance(value, set) else value) for key, value in options.items()]
    described += [(name, os.environ.get(name)) for name in _CODE_VARIABLES]
    digest = hashlib.sha256((cache.sources_digest() + repr(described)).encode()).hexdigest()[:12]
    fn.__qualname__ = f"{fn.__qualname__}_{digest}"
    return fn


def stub(fn: Callable) -> Callable:
    """Make `fn`, whose body is its docstring, a function that cells implement.

    The type of the first argument picks the body: at compile time in kernels, at run time in plain Python.
    """
    dispatch = functools.singledispatch(_missing(fn))
    functools.update_wrapper(dispatch, fn)

    @body_of(dispatch)  # looked up when a kernel is compiled: cells may register before or after this
    def pick(cell, *args):
        cls: Any = getattr(cell, "instance_class", None)
        if hasattr(cls, "generated_body"):  # made by `equations`
            return cls.generated_body(fn.__name__, _bits(args))
        body = None if cls is None else dispatch.dispatch(cls)
        return None if body is dispatch.dispatch(object) else body

    return dispatch


def body_of(fn: Callable, *, literal: bool = False, **options: Any) -> Callable[[Callable], Callable]:
    """Let kernels call `fn`: the decorated function maps the types of its arguments to a body, or None.

    Parameters
    ----------
    fn : function
        Called with arguments by position only. The body becomes a part of each kernel that calls it.
    literal : bool
        Tell constants from one another: each has a body of its own.
    **options
        Compile options that differ from :data:`OPTIONS`.
    """
    return (lambda pick: pick) if DISABLED else pipeline.body_of(fn, {**OPTIONS, **options}, literal)


def inlined(fn: Callable) -> Callable:
    """Make `fn` a part of every kernel that calls it, instead of a function of its own. Python calls it as it is."""
    body_of(fn)(lambda *args: fn)
    return fn


def implements(stub: Callable, cell_type: type) -> Callable[[Callable], Callable]:
    """Register the decorated function as the body of `stub` for cells of `cell_type`.

    Parameters
    ----------
    stub : function
        Made by :func:`stub`.
    cell_type : type
        A NamedTuple class of numbers; nested tuples can't enter parallel loops. Its name must be unique.

    Returns
    -------
    decorator
        It returns the function unchanged.
    """
    if not hasattr(stub, "register"):
        raise TypeError(f"implements() needs a function made by engine.runtime.jit.stub, got {stub!r}")
    if not (isinstance(cell_type, type) and issubclass(cell_type, tuple) and hasattr(cell_type, "_fields")):
        raise TypeError(f"implements() needs a NamedTuple class as cell_type, got {cell_type!r}")

    def register(body: Callable) -> Callable:
        stub.register(cell_type)(body)  # type: ignore[attr-defined]
        source = inspect.getsourcefile(body)
        if source is not None:
            cache.cell_sources.setdefault(cell_type, set()).add(source)
        return body

    return register


def register_sources(*sources: str | os.PathLike | ModuleType) -> None:
    """Let cached code depend on further source files.

    The file of every body given to :func:`implements` counts already; this is for what such a body imports.

    Parameters
    ----------
    *sources : path or module
    """
    for source in sources:
        path = source.__file__ if isinstance(source, ModuleType) else os.fspath(source)
        if path is None or not os.path.isfile(path):
            raise ValueError(
                f"register_sources() needs source files or modules that have one, got {source!r}"
            )
        cache.extra_sources.add(str(path))


def _bits(arguments: Iterable[Any]) -> int:
    """Width of the numbers of the first array among arguments, or among their types."""
    for a in arguments:
        if hasattr(a, "dtype"):
            return getattr(a.dtype, "bitwidth", None) or 8 * a.dtype.itemsize
        inner = a if isinstance(a, tuple) else getattr(a, "types", ())
        if inner and (bits := _bits(inner)):
            return bits
    return 0


def _missing(fn: Callable) -> Callable:
    def missing(cell: Any, *args: Any) -> Any:
        if hasattr(cell, "generated_body"):
            return cell.generated_body(fn.__name__, _bits(args))(cell, *args)
        raise NotImplementedError(
            f"{fn.__name__} has no body for {type(cell).__name__}: "
            f"register one with @implements({fn.__name__}, {type(cell).__name__})"
        )

    return missing
