r"""Training on several machines, with dask (extra ``dask``): each update is computed by all workers of a cluster together.

A global batch of B sequences is divided by where its sequences lie. Each worker computes the gradient of its share and sends
it to the process that calls `fit`, directly where that process can connect to it, and through the scheduler otherwise. There
the gradients are added up, one update is made, and the new weights are sent to all workers with the next batch:

.. math:: g = \sum_k \frac{B_k}{B} g_k

where worker k has :math:`B_k` of the sequences, and :math:`g_k` is the gradient of their mean loss. The sum is the gradient
of one process with the same batch, up to rounding.

An update moves :math:`2 K P s` bytes through the calling process, for K workers, P weights and s bytes a number. With the
bandwidth w this takes :math:`2 K P s / w` seconds. The computation takes :math:`B c / K`, with c seconds for each sequence.
Both take equally long at a global batch of

.. math:: B = \frac{2 K^2 P s}{w c}

sequences, and larger batches use the workers better. :func:`communication` gives these figures. A message takes a few
milliseconds more, whatever it holds. ``python -m benchmarks.cluster`` measures two workers of one thread beside one process
with two threads; its results are in benchmarks/results/cluster.md of the repository.

In one process, :class:`DaskBatches` gives models the blocks of dask arrays that are larger than its memory.
"""

from fastrnn.distributed.batches import DaskBatches
from fastrnn.distributed.communication import Communication, communication
from fastrnn.distributed.estimators import DaskRNNClassifier, DaskRNNRegressor
from fastrnn.distributed.series import DaskRNNForecaster

__all__ = [
    "Communication",
    "DaskBatches",
    "DaskRNNClassifier",
    "DaskRNNForecaster",
    "DaskRNNRegressor",
    "communication",
]
