"""Exception classes of fastrnn."""

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
    """A model can't be converted to or from another library.

    The message names the layer or option that the other library lacks, and what to use instead.
    """


class ModelFileError(OSError, ValueError):
    """A file can't be read or written as a model.

    The message names the file, the problem, and what to do. After a failed save, an existing file is unchanged; after a
    failed load, no object is changed.
    """


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient became NaN or infinite in training.

    The model keeps its last finite weights, so training can continue with other settings.
    """


class NotBuiltError(ValueError):
    """The call needs weights, which are created when the shape of the input is known."""


class NotCompiledError(RuntimeError):
    """The call needs a loss or an optimizer, which ``compile()`` sets."""


class EquationError(ValueError):
    """The equations of a cell can't be traced; the message shows the line and what to write instead.

    Attributes
    ----------
    line : int or None
        Line of the user's function.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line
