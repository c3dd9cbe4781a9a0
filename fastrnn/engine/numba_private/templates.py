"""How a call in a kernel gets a type: classes that Numba asks, and a registry of them.

The public `numba.extending.overload` would compile the body once more for each function that calls it.
"""

from numba.core.typing.templates import AbstractTemplate, infer, infer_global, signature

__all__ = ["AbstractTemplate", "infer", "infer_global", "signature"]
