"""Templates, which give types to calls in kernels, and Numba's registry of them.

The public `numba.extending.overload` would compile the body again for each function that calls it.
"""

from numba.core.typing.templates import AbstractTemplate, infer, infer_global, signature

__all__ = ["AbstractTemplate", "infer", "infer_global", "signature"]
