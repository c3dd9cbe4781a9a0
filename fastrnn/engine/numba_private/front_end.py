"""Less work before LLVM: repeated questions of Numba's compiler are answered once, and values stay out of memory.

Numba looks for new registrations at almost every call that it lowers, and for the type of the same sum of integers each
time. It also stores each variable that more than one block uses in memory, so that LLVM must split every load of a tuple
of arrays into its hundred numbers. ``python -m benchmarks.compare`` times first fits with and without a change here.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import Any

from numba import types
from numba.core import ir
from numba.core.analysis import compute_cfg_from_blocks, compute_use_defs, must_use_alloca
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.registry import cpu_target
from numba.core.typed_passes import NativeLowering

__all__ = ["Lowering", "fewer_questions"]


class _ValuesInRegisters(Lower):
    """Keeps a variable that is assigned once as a value, wherever it is used."""

    def _find_singly_assigned_variable(self) -> None:
        if self.flags.nrt or self.func_ir.func_id.is_generator:
            super()._find_singly_assigned_variable()
            return
        blocks = self.blocks
        known = compute_use_defs(blocks)
        assigned: dict[str, int] = {}
        several: set[str] = must_use_alloca(blocks)
        used: dict[str, set[int]] = {}
        for label, block in blocks.items():
            for statement in block.body:
                if isinstance(statement, ir.Assign):
                    name = statement.target.name
                    if name in assigned:
                        several.add(name)
                    assigned[name] = label
                elif isinstance(statement, ir.Del):
                    used.setdefault(statement.value, set()).add(label)
            for name in known.usemap[label]:
                used.setdefault(name, set()).add(label)
        # A value must exist where it is used: its block comes before on every path, and is lowered first.
        before = compute_cfg_from_blocks(blocks).dominators()
        self._singly_assigned_vars = {
            name
            for name, home in assigned.items()
            if name not in several
            and all(home <= label and home in before.get(label, ()) for label in used.get(name, ()))
        }
        self._blk_local_varmap: dict[str, Any] = {}


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(NativeLowering):
    """Numba's pass that writes LLVM's code, with fewer variables in memory."""

    _name = "fastrnn_native_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        """The class that lowers a function."""
        return _ValuesInRegisters


def _registrations(*contexts: Any) -> int:
    """Number of all registrations."""
    return sum(
        len(getattr(registry, name))
        for context in contexts
        for registry, loader in context._registries.items()
        for name in loader.registry_items
    )


#: Operators whose results have types that follow from the types of numbers.
_OPERATORS = {f for name in operator.__all__ if callable(f := getattr(operator, name))} | {bool}


class _Questions:
    """Answers of the contexts of the compiler, kept until something is registered."""

    def __init__(self) -> None:
        self.typing, self.target = cpu_target.typing_context, cpu_target.target_context
        self.active = False
        #: Number of registrations that each context knows.
        self.known = {self.typing: -1, self.target: -1}
        self.signatures: dict[tuple[int, tuple], tuple[Any, Any]] = {}

    def refreshed(self, context: Any) -> Callable[[], None]:
        """A context's `refresh`, which does nothing unless there are new registrations."""
        refresh = context.refresh

        def when_needed() -> None:
            if self.known[context] != _registrations(self.typing, self.target):
                refresh()
                self.known[context] = _registrations(self.typing, self.target)
                self.signatures.clear()

        return when_needed

    def resolve(self, func: Any, args: tuple, kws: dict) -> Any:
        """The signature of a call."""
        ask = type(self.typing).resolve_function_type
        if (
            kws
            or getattr(func, "typing_key", None) not in _OPERATORS
            or not all(isinstance(a, (types.Number, types.Boolean)) for a in args)
        ):
            return ask(self.typing, func, args, kws)
        key = id(func), tuple(args)
        if key not in self.signatures:
            self.signatures[key] = func, ask(self.typing, func, args, kws)
        return self.signatures[key][1]


_questions = _Questions()


@contextlib.contextmanager
def fewer_questions() -> Iterator[None]:
    """Answer repeated questions from memory in this block; the compiler's lock is held."""
    if _questions.active:
        yield
        return
    typing, target = _questions.typing, _questions.target
    _questions.active = True
    # Attributes of the objects hide the methods of their classes.
    target.refresh, typing.refresh = _questions.refreshed(target), _questions.refreshed(typing)
    typing.resolve_function_type = _questions.resolve
    try:
        yield
    finally:
        del target.refresh, typing.refresh, typing.resolve_function_type
        _questions.active = False
