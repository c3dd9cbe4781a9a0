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

    Examples
    --------
    >>> from fastrnn import ConversionError, Sequential, layers
    >>> from fastrnn.interop import to_c
    >>> net = Sequential([layers.Input((3, 2)), layers.LSTM(2, go_backwards=True)])
    >>> try:
    ...     to_c(net, "net")
    ... except ConversionError:
    ...     print("C can't run it")
    C can't run it
    """


class ModelFileError(OSError, ValueError):
    """A file can't be read or written as a model.

    The message names the file, the problem, and what to do. After a failed save, an existing file is unchanged; after a
    failed load, no object is changed.

    Examples
    --------
    >>> import fastrnn, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "damaged.fastrnn")
    >>> _ = path.write_bytes(b"not a model")
    >>> try:
    ...     fastrnn.load(path)
    ... except fastrnn.ModelFileError:
    ...     print("not a model")
    not a model
    """


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient became NaN or infinite in training.

    The model keeps its last finite weights, so training can continue with other settings.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import NonFiniteLossError, Sequential, layers
    >>> model = Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> try:
    ...     model.fit(np.ones((4, 2)), np.full((4, 1), np.inf), verbose=0)
    ... except NonFiniteLossError:
    ...     print("not finite; the weights are", np.isfinite(model.get_weights()[0]).all())
    not finite; the weights are True
    """


class NotBuiltError(ValueError):
    """The call needs weights, which are created when the shape of the input is known.

    Examples
    --------
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.exceptions import NotBuiltError
    >>> try:
    ...     Sequential([layers.Dense(1)]).stream()
    ... except NotBuiltError:
    ...     print("the shape of the input isn't known yet")
    the shape of the input isn't known yet
    """


class NotCompiledError(RuntimeError):
    """The call needs a loss or an optimizer, which ``compile()`` sets.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.exceptions import NotCompiledError
    >>> try:
    ...     Sequential([layers.Dense(1)]).fit(np.ones((4, 2)), np.ones((4, 1)))
    ... except NotCompiledError:
    ...     print("compile() comes first")
    compile() comes first
    """


class EquationError(ValueError):
    """The equations of a cell can't be traced; the message shows the line and what to write instead.

    Attributes
    ----------
    line : int or None
        Line of the user's function.

    Examples
    --------
    >>> from fastrnn.cells import equations
    >>> from fastrnn.exceptions import EquationError
    >>> def Branches(z, prev, p):
    ...     return z.f if z.f > 0 else prev.h
    >>> try:
    ...     equations("f")(Branches)
    ... except EquationError as error:
    ...     print(str(error).splitlines()[-1][:40])
    a step is traced once for all numbers, s
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line
