"""What the engine takes from Numba, chosen once: the private implementation, the stock path, or none.

=========  ============================================================================================================
private    the modules of this folder, with Numba's private names: for the versions of Numba that were tried
stock      public names only (`stock`): with ``FASTRNN_STOCK_NUMBA=1``, and for a Numba newer than those that were tried
disabled   nothing is compiled: with ``NUMBA_DISABLE_JIT=1``
=========  ============================================================================================================

On the stock path kernels are the same Python functions, compiled by `numba.njit`. What the private path writes in LLVM's
language (register tiles, views without reference counts, calls by address) is Python there, as it is where nothing is
compiled, and calls run in one thread. Numbers are the same but for rounding; calls take longer.
"""

from __future__ import annotations

import os
import re
import warnings
from typing import Any

import numba
from numba import config

from fastrnn.engine.numba_private.redirect import Redirect

__all__ = [
    "DISABLED",
    "FIRST_UNTRIED",
    "PATH",
    "PLAIN",
    "STOCK",
    "Redirect",
    "add_symbol",
    "address_of_symbol",
    "array_field",
    "array_value",
    "background",
    "cgutils",
    "dispatcher",
    "pipeline",
    "stock",
    "storage",
    "symbols",
    "templates",
]

#: The first version of Numba whose private names were not tried: pyproject.toml allows those before it.
FIRST_UNTRIED = (0, 69)


def _choose() -> str:
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return "disabled"
    asked = os.environ.get("FASTRNN_STOCK_NUMBA", "")
    if asked not in ("", "0", "1"):
        raise ValueError(
            f"FASTRNN_STOCK_NUMBA={asked!r} must be 1 (public names of Numba only), 0 (private names whatever the version "
            "of Numba), or empty (by the version of Numba)"
        )
    if asked:
        return "stock" if asked == "1" else "private"
    found = re.match(r"(\d+)\.(\d+)", numba.__version__)
    if found is None or tuple(map(int, found.groups())) < FIRST_UNTRIED:
        return "private"
    warnings.warn(
        f"Numba {numba.__version__} is newer than the versions that fastrnn was tried with (before "
        f"{'.'.join(map(str, FIRST_UNTRIED))}): kernels are compiled by Numba's public functions only, in one thread, which "
        "is slower and gives the same results. Install an older Numba, or try FASTRNN_STOCK_NUMBA=0",
        RuntimeWarning,
        stacklevel=2,
    )
    return "stock"


#: "private", "stock" or "disabled".
PATH = _choose()
DISABLED = PATH == "disabled"
STOCK = PATH == "stock"
#: Whether the bodies of kernels are Python throughout: what emits LLVM's language, and threads, are for the private path.
PLAIN = DISABLED or STOCK

add_symbol: Any = None
address_of_symbol: Any = None
array_field: Any = None
array_value: Any = None
background: Any = None
cgutils: Any = None
dispatcher: Any = None
pipeline: Any = None
stock: Any = None
storage: Any = None
symbols: Any = None
templates: Any = None


if STOCK:
    from fastrnn.engine.numba_private import stock
else:
    from fastrnn.engine.numba_private import background, dispatcher, pipeline, storage, symbols, templates
    from fastrnn.engine.numba_private.emit import array_field, array_value, cgutils
    from fastrnn.engine.numba_private.symbols import add_symbol, address_of_symbol
