"""Transformers of sequences for scikit-learn pipelines.

Each takes and gives sequences in three dimensions, padded with NaN or not, or of unequal length.
"""

from fastrnn.preprocessing.calendar import CalendarFeatures
from fastrnn.preprocessing.lags import LagFeatures, SequenceDifferencer
from fastrnn.preprocessing.lengths import SequencePadder, SequenceResampler
from fastrnn.preprocessing.missing import SequenceImputer
from fastrnn.preprocessing.scalers import RobustScaler3D, StandardScaler3D
from fastrnn.preprocessing.windows import sliding_windows

__all__ = [
    "CalendarFeatures",
    "LagFeatures",
    "RobustScaler3D",
    "SequenceDifferencer",
    "SequenceImputer",
    "SequencePadder",
    "SequenceResampler",
    "StandardScaler3D",
    "sliding_windows",
]
