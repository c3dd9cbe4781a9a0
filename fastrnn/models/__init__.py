"""Models: layers that are trained together and keep all weights in one vector.

`Sequential` is a stack of layers, `EncoderDecoder` has two stacks. Users and estimators call models; models call layers and
`training`, and do not import scikit-learn.
"""

from fastrnn.models.base import load_model
from fastrnn.models.encoder_decoder import EncoderDecoder
from fastrnn.models.model import Model
from fastrnn.models.sequential import Sequential

__all__ = ["EncoderDecoder", "Model", "Sequential", "load_model"]
