"""Inspection of trained networks: hidden states, gradients by time step, and attributions of predictions to time steps.

Each function takes a fitted :class:`~fastrnn.RNNClassifier` or :class:`~fastrnn.RNNRegressor`, a pipeline or a search that
ends in one, or a :class:`~fastrnn.Sequential`. The object is not changed: the passes run in a copy without dropout, from
zero states. :mod:`fastrnn.plotting` draws the results of these functions.
"""

from fastrnn.inspection.answers import DeletionCurve, attributions, deletion_curve
from fastrnn.inspection.states import gradient_norms, hidden_states

__all__ = ["DeletionCurve", "attributions", "deletion_curve", "gradient_norms", "hidden_states"]
