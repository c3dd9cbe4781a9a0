"""What an update of several workers costs beside its computation."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastrnn.checks import integer, number

__all__ = ["Communication", "communication"]


class Communication(NamedTuple):
    """What an update costs beside its computation: see :func:`communication`.

    Examples
    --------
    >>> from fastrnn.distributed import Communication
    >>> Communication(8_000_000, 0.064, 2000).seconds
    0.064
    """

    n_bytes: int
    """Weights to the workers, and gradients from them."""
    seconds: float
    """Time to move them."""
    break_even_batch: int
    """Sequences of a global batch whose computation takes as long."""


def communication(
    n_workers: int, n_weights: int, bandwidth: float, seconds_per_sequence: float
) -> Communication:
    """Compute what an update of several workers costs beside its computation.

    Parameters
    ----------
    n_workers : int
    n_weights : int
        Number of weights of the network, of 4 bytes each.
    bandwidth : float
        Bytes per second that the calling process can send and receive; 1.25e8 for 1 Gbit/s.
    seconds_per_sequence : float
        Time of one worker for the forward and backward pass of one sequence, in a large batch.

    Returns
    -------
    Communication

    Examples
    --------
    A network of 100,000 weights whose sequences take 100 us each, with 8 and with 1,000 workers and 10 Gbit/s:

    >>> from fastrnn.distributed import communication
    >>> communication(8, 100_000, 1.25e9, 1e-4)
    Communication(n_bytes=6400000, seconds=0.00512, break_even_batch=410)
    >>> communication(1000, 100_000, 1.25e9, 1e-4).break_even_batch
    6400000
    """
    n_workers, n_weights = integer(n_workers, "n_workers", 1), integer(n_weights, "n_weights", 1)
    number(bandwidth, "bandwidth", 0)
    number(seconds_per_sequence, "seconds_per_sequence", 0)
    if not bandwidth or not seconds_per_sequence:
        raise ValueError("bandwidth and seconds_per_sequence must be above 0")
    n_bytes = 2 * n_workers * n_weights * 4
    seconds = n_bytes / bandwidth
    # Rounded first, because a quotient such as 6400000.000000001 is not meant to count as one more sequence.
    return Communication(n_bytes, seconds, math.ceil(round(seconds * n_workers / seconds_per_sequence, 6)))
