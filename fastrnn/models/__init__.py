"""Models: layers with one vector of weights, trained together.

`Sequential` has layers in a row, `EncoderDecoder` two such rows. Users and the estimators call them; a model calls layers
and `training`, and does not import scikit-learn.
"""

from fastrnn.models.base import load_model
from fastrnn.models.encoder_decoder import EncoderDecoder
from fastrnn.models.model import Model
from fastrnn.models.sequential import Sequential

__all__ = ["EncoderDecoder", "Model", "Sequential", "load_model"]
