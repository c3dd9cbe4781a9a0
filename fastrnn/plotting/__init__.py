"""Pictures of training, of the states and gradients of a network, and of forecasts.

The displays work as in scikit-learn: ``from_estimator`` computes and draws, ``from_predictions`` draws given numbers, and
``plot`` draws again, optionally on given axes. They keep the numbers that are drawn, the figure in ``figure_`` and the
axes in ``ax_`` or ``axes_``. Colours and line styles can be distinguished with colour blindness and in grey.

They need matplotlib (the extra ``plot``), which is imported when a picture is drawn. The displays of forecasts are
in :mod:`fastrnn.forecasting`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastrnn.plotting.forecast import plot_forecast
from fastrnn.plotting.loss_curve import LossCurveDisplay, plot_learning_curves

if TYPE_CHECKING:  # what the names below are, for type checkers and editors
    from fastrnn.plotting.attribution import AttributionDisplay as AttributionDisplay
    from fastrnn.plotting.gradient_flow import GradientFlowDisplay as GradientFlowDisplay
    from fastrnn.plotting.hidden_state import HiddenStateDisplay as HiddenStateDisplay

__all__ = [
    "AttributionDisplay",
    "GradientFlowDisplay",
    "HiddenStateDisplay",
    "LossCurveDisplay",
    "plot_forecast",
    "plot_learning_curves",
]

#: Names that are imported at first use, because they import the estimators.
_LATER = {
    "AttributionDisplay": "attribution",
    "GradientFlowDisplay": "gradient_flow",
    "HiddenStateDisplay": "hidden_state",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
