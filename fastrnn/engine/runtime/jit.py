"""Decorators of compiled functions: compile options, the disk cache, and the stubs that cells implement.

Every kernel is a module-level function decorated with :func:`jit`. It is compiled at its first call, not at import, and the
machine code is kept on disk, so a second process compiles nothing. Kernels for all cells call *stubs* (made by
:func:`stub`), and each cell registers its bodies with :func:`implements`; the type of the first argument, a NamedTuple
class, selects the body, in compiled code and in Python. With ``NUMBA_DISABLE_JIT=1`` everything runs as Python.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from fastrnn.engine.numba_private import services
from fastrnn.engine.numba_private.services import DISABLED, PLAIN, STOCK
from fastrnn.engine.runtime import cache
from fastrnn.engine.runtime.interrupts import held

__all__ = [
    "DISABLED",
    "FASTMATH",
    "PLAIN",
    "STOCK",
    "body_of",
    "implements",
    "inlined",
    "jit",
    "register_sources",
    "stub",
]

#: Additions may be reordered and fused, divisions may become products, the sign of zero is arbitrary. Not in the set: `nnan`
#: and `ninf`, because NaN in the data must give NaN; and `afn`, which allows less accurate functions.
FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})

#: The compile options of all kernels. They allocate no arrays, so references are not counted; no C code calls them.
OPTIONS: dict[str, Any] = {
    "nopython": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": set(FASTMATH),
    "_nrt": False,
    "no_cfunc_wrapper": True,
}

if STOCK:
    services.stock.Kernel.guard = held
elif not DISABLED:
    services.dispatcher.Dispatcher.guard = held

#: Environment variables that change the code of intrinsics.
_CODE_VARIABLES = ("FASTRNN_VECTOR_BITS",)


def jit(
    fn: Callable | None = None,
    *,
    fastmath: bool = True,
    allocates: bool | None = None,
    inner: bool = False,
    entry: bool = False,
    few_passes: bool = False,
) -> Any:
    """Compile `fn` at its first call with the options that all kernels share, and keep the result on disk.

    Parameters
    ----------
    fn : function
        A module-level function. A closure over other functions would not be found in the disk cache.
    fastmath : bool
        Whether to allow the reorderings of :data:`FASTMATH`. Use False if the result depends on the order of operations.
    allocates : bool, optional
        Whether the function may make arrays; by default True for functions outside this package.
    inner : bool
        Whether only kernels call the function; it then can't be called from Python.
    entry : bool
        The function only hands parts of a job to `handover.share`: on the stock path Python does that.
    few_passes : bool
        Whether LLVM only inlines calls and puts values into registers, which takes a fifth of the time. For functions whose
        loops are written in vectors, and for those without loops over arrays.

    Returns
    -------
    dispatcher
        The compiled function, or `fn` itself where it is not compiled.
    """
    if fn is None:
        return functools.partial(
            jit, fastmath=fastmath, allocates=allocates, inner=inner, entry=entry, few_passes=few_passes
        )
    if DISABLED or (STOCK and entry):
        return fn
    options = {
        **OPTIONS,
        "fastmath": OPTIONS["fastmath"] if fastmath else False,
        "no_cpython_wrapper": inner,
    }
    if STOCK:
        return services.stock.Kernel(fn, options)
    options["_nrt"] = not services.pipeline.is_ours(fn) if allocates is None else allocates
    pipeline = services.pipeline.FewPasses if few_passes else services.pipeline.Pipeline
    dispatcher = services.dispatcher.Dispatcher(
        stamped(fn, options), targetoptions=options, pipeline_class=pipeline
    )
    dispatcher._cache = cache.Cache(fn)
    return dispatcher


def stamped(fn: Callable, options: dict[str, Any]) -> Callable:
    """Append a digest of all sources and of the compile options to the qualified name of `fn`.

    Numba's cache files depend on the qualified name and on the function's own file. With the digest in the name, code is
    compiled again after a change of any file of the engine or of the cells.
    """
    described = [(key, sorted(value) if isinstance(value, set) else value) for key, value in options.items()]
    described += [(name, os.environ.get(name)) for name in _CODE_VARIABLES]
    digest = hashlib.sha256((cache.sources_digest() + repr(described)).encode()).hexdigest()[:12]
    fn.__qualname__ = f"{fn.__qualname__}_{digest}"
    return fn


def stub(fn: Callable) -> Callable:
    """Make `fn`, whose body is only a docstring, a function that cells implement.

    The type of the first argument selects the body, at compile time in kernels and at run time in Python.
    """
    dispatch = functools.singledispatch(_missing(fn))
    functools.update_wrapper(dispatch, fn)

    @body_of(dispatch)  # looks up the body when a kernel is compiled, so cells may register later
    def pick(cell, *args):
        cls: Any = getattr(cell, "instance_class", None)
        if hasattr(cls, "generated_body"):  # made by `equations`
            return cls.generated_body(fn.__name__, _bits(args))
        body = None if cls is None else dispatch.dispatch(cls)
        return None if body is dispatch.dispatch(object) else body

    return dispatch


def body_of(fn: Callable, *, literal: bool = False, **options: Any) -> Callable[[Callable], Callable]:
    """Make `fn` callable from kernels: the decorated function maps the types of its arguments to a body, or None.

    Parameters
    ----------
    fn : function
        Called with positional arguments only. The body is inlined into each kernel that calls it.
    literal : bool
        Whether each constant has its own body.
    **options
        Compile options that differ from :data:`OPTIONS`.
    """
    if DISABLED:
        return lambda pick: pick
    path = services.stock if STOCK else services.pipeline
    return path.body_of(fn, {**OPTIONS, **options}, literal)


def inlined(fn: Callable | None = None, **options: Any) -> Any:
    """Make `fn` a part of every kernel that calls it, instead of a function of its own. Python calls it as it is.

    Parameters
    ----------
    fn : function
    **options
        Compile options that differ from :data:`OPTIONS`.
    """
    if fn is None:
        return functools.partial(inlined, **options)
    body_of(fn, **options)(lambda *args: fn)
    return fn


def implements(stub: Callable, cell_type: type) -> Callable[[Callable], Callable]:
    """Register the decorated function as the body of `stub` for cells of `cell_type`.

    Parameters
    ----------
    stub : function
        A function made by :func:`stub`.
    cell_type : type
        A NamedTuple class of numbers, without nested tuples. Its name must be unique.

    Returns
    -------
    decorator
        Returns the function unchanged.
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
    """Make cached code depend on further source files.

    The files of bodies for :func:`implements` are included already; use this for modules that the bodies import.

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
    """Number of bits of the elements of the first array among arguments, or among their types."""
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
