"""Sequences as users give them: arrays, tokens, and sequences of unequal length.

Models, estimators and transformers call it; it calls the padding kernel of the engine only.
"""

from fastrnn.sequences.ragged import Ragged, as_object_array
from fastrnn.sequences.reading import Sequences, as_sequences, as_step_values, lay_out_steps, read_sequences
from fastrnn.sequences.stateful import StatefulBatches, stateful_batches

__all__ = [
    "Ragged",
    "Sequences",
    "StatefulBatches",
    "as_object_array",
    "as_sequences",
    "as_step_values",
    "lay_out_steps",
    "read_sequences",
    "stateful_batches",
]
