"""What our intrinsics use of Numba's own code generator, besides the context and builder that they are handed.

`cgutils` are small pieces of LLVM code (Numba's documentation shows it in its example of a new type); `populate_array`
fills the structure behind an array: our views are arrays without a reference to an owner.
"""

from numba.core import cgutils
from numba.np.arrayobj import populate_array

__all__ = ["cgutils", "populate_array"]
