"""Errors that fastrnn raises beyond Python's own."""

from __future__ import annotations

__all__ = [
    "ConversionError",
    "EquationError",
    "ModelFileError",
    "NonFiniteLossError",
    "NotBuiltError",
    "NotCompiledError",
]


class ConversionError(ValueError):
    """A model can't be carried over to another library, or from it.

    The message names the layer or option that the other side lacks, and what would do.
    """


class ModelFileError(OSError, ValueError):
    """A file can't be read or written as a model.

    The message names the file, what is wrong with it, and what would do. After a failed save the file that was there before
    is unchanged; after a failed load nothing was changed.
    """


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient became NaN or infinite in training.

    The model keeps its last good weights, so it can go on with other settings.
    """


class NotBuiltError(ValueError):
    """The call needs weights, which exist only once the input's shape is known."""


class NotCompiledError(RuntimeError):
    """The call needs a loss or an optimizer; ``compile()`` gives them."""


class EquationError(ValueError):
    """The equations of a cell can't be traced; the message shows the line and says what to write instead.

    Attributes
    ----------
    line : int or None
        Line of the user's function.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line
