"""Private helpers of Numba's code generator for intrinsics.

`cgutils` emits small pieces of LLVM code (Numba's documentation uses it in its example of a new type); `array_value` and
`array_field` make arrays and read them as values, where Numba's own helpers go through memory, which takes three times as
much code before it is optimised. Arrays that are made so have no reference to an owner.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["array_field", "array_value", "cgutils"]


def array_field(context: Any, builder: Any, kind: Any, array: Any, name: str) -> Any:
    """A field of an array: "data", "shape" or "strides"."""
    return builder.extract_value(array, context.data_model_manager[kind].get_field_position(name))


def array_value(
    context: Any, builder: Any, kind: Any, data: Any, shape: list[Any], strides: list[Any], itemsize: Any
) -> Any:
    """An array of numbers of `itemsize` bytes at the address `data`."""
    model = context.data_model_manager[kind]
    nitems = shape[0]
    for n in shape[1:]:
        nitems = builder.mul(nitems, n, flags=["nsw"])
    fields = {"nitems": nitems, "itemsize": itemsize, "data": data}
    array: Any = ir.Constant(model.get_value_type(), None)
    for name, value in fields.items():
        array = builder.insert_value(array, value, model.get_field_position(name))
    for name, values in (("shape", shape), ("strides", strides)):
        for k, value in enumerate(values):
            array = builder.insert_value(array, value, (model.get_field_position(name), k))
    return array
