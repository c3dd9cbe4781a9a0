"""Private helpers of Numba's code generator for intrinsics.

`cgutils` emits small pieces of LLVM code (Numba's documentation uses it in its example of a new type); `populate_array`
fills the structure of an array, for views without a reference to an owner.
"""

from numba.core import cgutils
from numba.np.arrayobj import populate_array

__all__ = ["cgutils", "populate_array"]
