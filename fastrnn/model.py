"""The public path of :class:`Sequential` and :func:`load_model`; both are defined in `fastrnn.models`."""

from fastrnn.models import Model, Sequential, load_model

__all__ = ["Model", "Sequential", "load_model"]
