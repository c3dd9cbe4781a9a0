"""One place for compile options, the disk cache, and the stubs that cells implement.

Every kernel is a module-level function decorated with :func:`jit`. It compiles at its first call, not at
import, and the machine code is kept on disk, so a second process compiles nothing. A kernel that serves many
cells calls *stubs* (made by :func:`stub`), and each cell registers its bodies with :func:`implements`; the
type of the first argument, a NamedTuple class, picks the body, in compiled code and in plain Python alike.
With ``NUMBA_DISABLE_JIT=1`` everything here runs as plain Python.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import itertools
import os
import pickle
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

from fastrnn.engine.numba_private.dispatcher import Dispatcher

from . import compiling

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

#: Separately compiled functions (see `linking`): name -> what provides it for a tuple of argument types.
EXTERNALS: dict[str, Callable[[tuple], str]] = {}
#: Their symbols, so far: symbol -> (name, argument types).
EXTERNAL_SYMBOLS: dict[str, tuple[str, tuple]] = {}

_ENGINE = Path(__file__).resolve().parent.parent
_SOURCE_FOLDERS = (_ENGINE, _ENGINE.parent / "cells")

#: Variables that change the code which our intrinsics emit.
_CODE_VARIABLES = ("FASTRNN_VECTOR_BITS",)
_DAY = 86400.0

_extra_sources: set[str] = set()
_implementation_sources: dict[type, set[str]] = {}
_warned = False


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
        "_nrt": not compiling.is_ours(fn) if allocates is None else allocates,
        "no_cpython_wrapper": inner,
    }
    dispatcher = Dispatcher(stamped(fn, options), targetoptions=options, pipeline_class=compiling.Pipeline)
    try:
        dispatcher._cache = _Cache(fn)
    except (RuntimeError, OSError) as error:
        _warn_no_cache(error)
    return dispatcher


def stamped(fn: Callable, options: dict[str, Any]) -> Callable:
    """Append a digest of all sources and of the compile options to the qualified name of `fn`.

    Numba names cache files after the qualified name and stamps them with the function's own file only. With the
    digest in the name, a change of any other engine or cell file never leads to stale code.
    """
    described = [(key, sorted(value) if isinstance(value, set) else value) for key, value in options.items()]
    described += [(name, os.environ.get(name)) for name in _CODE_VARIABLES]
    digest = hashlib.sha256((_sources_digest() + repr(described)).encode()).hexdigest()[:12]
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
        cls = getattr(cell, "instance_class", None)
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
    return (lambda pick: pick) if DISABLED else compiling.body_of(fn, {**OPTIONS, **options}, literal)


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
            _implementation_sources.setdefault(cell_type, set()).add(source)
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
        _extra_sources.add(str(path))


def _missing(fn: Callable) -> Callable:
    def missing(cell: Any, *args: Any) -> Any:
        raise NotImplementedError(
            f"{fn.__name__} has no body for {type(cell).__name__}: "
            f"register one with @implements({fn.__name__}, {type(cell).__name__})"
        )

    return missing


@functools.cache
def _sources_digest() -> str:
    # Folders inside count too: a file that is left out here would be changed without its code being compiled anew.
    files = [path for folder in _SOURCE_FOLDERS for path in sorted(folder.rglob("*.py"))]
    return _digest_files(files)


def _digest_files(files: Iterable[str | os.PathLike]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.path.basename(path).encode() + b"\0")
        try:
            digest.update(Path(path).read_bytes())
        except OSError:  # A frozen application has no sources, and nobody edits it.
            digest.update(b"?")
    return digest.hexdigest()


def _warn_no_cache(error: Exception) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled kernels can't be kept on disk, so every new process compiles them again ({error}). "
            "Set NUMBA_CACHE_DIR to a writable folder to change that.",
            RuntimeWarning,
            stacklevel=3,
        )


def _cell_classes(types: Iterable[Any]) -> Iterator[type]:
    for type_ in types:
        yield from _cell_classes(getattr(type_, "kinds", ()))
        cls = getattr(type_, "instance_class", None)
        if cls is not None:
            yield cls


def _externals(library: Any) -> list[tuple[str, tuple]]:
    """The separately compiled functions that compiled code refers to."""
    module = library._final_module
    names = [x.name for x in itertools.chain(module.functions, module.global_variables) if x.is_declaration]
    return [EXTERNAL_SYMBOLS[name] for name in names if name in EXTERNAL_SYMBOLS]


class _Cache(FunctionCache):
    """Numba's cache of one function, with one file per compiled signature instead of an index.

    With Numba's index two processes which compile two signatures at once can both take the name of the first
    free data file, and a later process then runs code of the wrong signature. Here the name is a digest of
    the key, and files appear by an atomic rename, so no order of events mixes them up. The key also covers
    the files of those cells which the signature names, which may live outside this package.
    """

    def __init__(self, py_func: Callable) -> None:
        super().__init__(py_func)
        self._stamp = repr((numba.__version__, llvmlite.__version__, self._impl.locator.get_source_stamp()))

    def _path(self, sig: Any, codegen: Any) -> str:
        sources = {
            s for cls in _cell_classes(sig) for s in _implementation_sources.get(cls, ())
        } | _extra_sources
        outside = [s for s in sources if not any(map(Path(s).resolve().is_relative_to, _SOURCE_FOLDERS))]
        key = repr((self._stamp, self._index_key(sig, codegen), _digest_files(sorted(outside))))
        name = f"{self._impl.filename_base}.{hashlib.sha256(key.encode()).hexdigest()[:24]}.nbc"
        return os.path.join(self._cache_path, name)

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        if not self._enabled:
            return None
        path = self._path(sig, target_context.codegen())
        try:
            with open(path, "rb") as file:
                symbols, reduced = pickle.load(file)
            for name, arguments in symbols:
                EXTERNALS[name](arguments)
            result = self._impl.rebuild(target_context, reduced)
            if time.time() - os.path.getmtime(path) > _DAY / 2:
                os.utime(path)  # _prune() goes by age: this one is in use.
        except Exception:  # Missing, cut short, or of classes that have moved: whatever it is, compile anew.
            return None
        return result if tuple(result.signature.args) == tuple(sig) else None

    def _save_overload(self, sig: Any, data: Any) -> None:
        if not self._enabled or not self._impl.check_cachable(data):
            return
        payload = dumps((_externals(data.library), self._impl.reduce(data)))
        path = self._path(sig, data.codegen)
        try:
            self._impl.locator.ensure_cache_path()
            with self._cache_file._open_for_write(path) as file:
                file.write(payload)
        except OSError as error:
            # On Windows a file which another process reads can't be replaced, but then it is there already.
            if not os.path.exists(path):
                _warn_no_cache(error)
        else:
            self._prune()

    def _prune(self) -> None:
        """Remove this function's files that belong to other sources and weren't used for a day."""
        stem, _, rest = self._impl.filename_base.rpartition("_")
        digest = rest.partition("-")[0]
        pattern = re.compile(re.escape(stem) + r"_(?!" + digest + r")[0-9a-f]{12}-\d+\.py.*\.nbc")
        for entry in os.scandir(self._cache_path):
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _DAY:
                        os.unlink(entry.path)
