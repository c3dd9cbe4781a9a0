"""The public path of :func:`stateful_batches`, which is defined in `fastrnn.sequences`."""

from fastrnn.sequences.stateful import StatefulBatches, stateful_batches

__all__ = ["StatefulBatches", "stateful_batches"]
