"""What goes on inside a trained network: hidden states, gradients by time step, and the steps that moved an answer.

Each function takes a fitted :class:`~fastrnn.RNNClassifier` or :class:`~fastrnn.RNNRegressor`, a pipeline or a
search that ends in one, or a :class:`~fastrnn.Sequential`. The object is left as it was: the passes run in a copy
without dropout, which starts from zero states. :mod:`fastrnn.plotting` draws what these functions return.
"""

from fastrnn.inspection.answers import DeletionCurve, attributions, deletion_curve
from fastrnn.inspection.states import gradient_norms, hidden_states

__all__ = ["DeletionCurve", "attributions", "deletion_curve", "gradient_norms", "hidden_states"]
