"""Imports of optional libraries, which are installed with extras of fastrnn."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["extra"]


def extra(module: str, name: str) -> Any:
    """Import a library that an extra of fastrnn installs.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    name : str
        Name of the extra.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'this needs {module.split(".")[0]}, which is not installed: pip install "fastrnn[{name}]"'
        ) from error
