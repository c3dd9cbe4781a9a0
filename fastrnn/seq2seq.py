"""The public path of :class:`EncoderDecoder`, which is defined in `fastrnn.models`."""

from fastrnn.models import EncoderDecoder

__all__ = ["EncoderDecoder"]
