"""Reading of sequences in all forms that users pass: arrays, tokens, and sequences of unequal length.

Called by models, estimators and transformers. Of the engine, it uses the padding kernel only.
"""

from fastrnn.sequences.long_frames import from_long_frame
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
    "from_long_frame",
    "lay_out_steps",
    "read_sequences",
    "stateful_batches",
]
