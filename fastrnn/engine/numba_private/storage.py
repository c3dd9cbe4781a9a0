"""Conversion of compiled functions to bytes and back, for the cache on disk."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import NumbaPickler

from fastrnn.engine.numba_private.symbols import address_of_symbol

__all__ = ["cachable", "code_key", "declared_names", "dumps", "make_known", "rebuilt", "reduced"]


class _Pickler(NumbaPickler):
    """Pickles some classes by name."""

    def __init__(self, file: Any, names: Mapping[type, Any]) -> None:
        super().__init__(file, protocol=4)
        self._names = names

    def persistent_id(self, obj: Any) -> Any:
        """The name of a class; None for objects that are pickled by value."""
        return self._names.get(obj) if isinstance(obj, type) else None


def dumps(value: Any, names: Mapping[type, Any] = MappingProxyType({})) -> bytes:
    """Pickle a value as Numba does, with the classes in `names` replaced by their values there."""
    buffer = io.BytesIO()
    _Pickler(buffer, names).dump(value)
    return buffer.getvalue()


def reduced(result: Any) -> Any:
    """The parts of a compiled function that can be pickled, including its machine code."""
    return result._reduce()


def rebuilt(context: Any, data: Any) -> Any:
    """The compiled function from `data`; its machine code is linked."""
    # Numba finds no function by a name that is in no module: those that are only called by address have none.
    context.codegen()._engine._defined_symbols.add(data[1].llvm_func_name)
    return CompileResult._rebuild(context, *data)


def cachable(result: Any) -> bool:
    """Whether the machine code can be used in other processes: it does not refer to objects of this process."""
    return not result.library.has_dynamic_globals and all(loop.can_cache for loop in result.lifted)


def code_key(function: Callable, signature: Any, codegen: Any) -> tuple:
    """What the machine code depends on in addition to source files: argument types, CPU, bytecode, closure variables."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    code = hashlib.sha256(function.__code__.co_code).hexdigest()
    return signature, codegen.magic_tuple(), code, hashlib.sha256(dumps(cells) if cells else b"").hexdigest()


def declared_names(result: Any) -> list[str]:
    """Names of the functions and variables that the machine code refers to and does not contain."""
    module = result.library._final_module
    names = [x.name for x in itertools.chain(module.functions, module.global_variables) if x.is_declaration]
    return [name for name in names if not name.startswith("llvm.")]  # intrinsics, which become instructions


def make_known(context: Any, names: Iterable[str]) -> None:
    """Make the linker know the names that loaded code refers to.

    Most code refers to names that are known from the start. Code that makes arrays refers to Numba's runtime. Other names
    come with a refresh of the context, which imports what the compiler needs, so it takes longer than all the rest.
    """
    for prepare in (lambda: rtsys.initialize(context), context.refresh):
        if all(address_of_symbol(name) is not None for name in names):
            return
        prepare()
