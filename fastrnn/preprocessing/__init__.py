"""Transformers of sequences for scikit-learn pipelines."""

from fastrnn.preprocessing.scalers import StandardScaler3D
from fastrnn.preprocessing.windows import sliding_windows

__all__ = ["StandardScaler3D", "sliding_windows"]
