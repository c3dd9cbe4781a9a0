"""What a body may be, besides a function: a redirection to another function."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Redirect"]


class Redirect(NamedTuple):
    """For a body: the call is one of another function that kernels know, without the first arguments."""

    function: Callable
    first: int
