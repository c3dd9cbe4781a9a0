"""Every constant that was measured: its unit, how it was found, and on what.

These numbers decide how work is cut and which thread does it. Results do not depend on them, except for the rounding of
weight gradients: how many rows are summed at a time decides the order of additions.

All were set on two cores of a virtual machine: AMD EPYC, AVX-512, 48 KiB of L1 and 1 MiB of L2 a core. Most are the point
where two curves of time cross. To try another value, write it here and run ``python -m benchmarks.compare HEAD .``,
which times inference and training by the working tree beside the last commit.

Work is counted in multiply-adds of matrix products, of which one core of that machine does 54 a nanosecond.
"""

from typing import NamedTuple

# ---------------------------------------------------------------------------------------------------------------------
# One thread: chunks of time steps and blocks of rows

#: Bytes. Scratch memory of a chunk of time steps: it has to stay in a core's L2, beside the packed weights, between the
#: product that fills it and the steps that read it.
CHUNK_BYTES = 192 * 1024
#: Rows. Going back, a chunk has at least this many, even if they exceed CHUNK_BYTES: weight gradients are read and written
#: once a chunk, and with fewer rows that takes longer than the products, once the gradients outgrow L2.
MIN_GRAD_ROWS = 256
#: Rows. A thread's sequences are processed in blocks of at most this many, so that a chunk has several steps.
MAX_BLOCK_ROWS = 64
#: Rows. At least this many inputs of one step fill the tiles of a product, which reads them where they lie; fewer are first
#: copied together with those of other steps. It saved 3 to 8% of the inference of small networks.
MIN_ROWS_IN_PLACE = 16

# ---------------------------------------------------------------------------------------------------------------------
# How many threads

#: Multiply-adds. Each further thread needs at least this many, 11 us: a hand-over takes 1.5 us, and what another core has
#: written must be fetched from its cache. Found with small passes, whose call takes 3 us.
MIN_THREAD_WORK = 600_000
#: Multiply-adds. What a time step costs besides its products: 75 ns.
STEP_WORK = 4_000
#: Multiply-adds. A smaller call, of less than 75 us, does not wake a sleeping thread: waking takes as long as it would help.
MIN_WAKING_WORK = 4_000_000
#: Rows. In inference each thread gets at least this many sequences: a product with one row waits for the weights, so it
#: takes nearly as long as one with two. (In training other products have all time steps as rows, so one is enough.)
MIN_INFERENCE_ROWS = 2
#: Rows. A product with fewer rows than this takes as long as one with this many, for the same reason.
MIN_PRODUCT_ROWS = 2.2
#: Multiply-adds. What the hand-overs of one split time step cost: 0.9 us for a single sequence, of which only the product is
#: split, 2.8 us for several, of which the rows of the gates are split as well.
SPLIT_STEP_COST = 50_000, 150_000
#: Multiply-adds. A thread's slice of a split step has at least this many: 0.5 us.
MIN_SLICE_WORK = 25_000
#: Numbers. Gradients of fewer weights are summed by one thread: their cache lines would only move from core to core.
MIN_SHARED_SUM = 1 << 18
#: Bytes. Packed weights up to this size are packed by every thread for itself, so that they lie in its own L2. Packed once
#: for two threads, 100 LSTM units took 53 us instead of 5, and the threads trained 1.2 times as fast as one instead of 1.9.
OWN_WEIGHTS_BYTES = 512 * 1024
#: Predictions. From this number on the kernel of the squared error is faster than NumPy, whose calls take 3 us.
MIN_LOSS_KERNEL = 1 << 8
#: Predictions. A loss is computed in pieces of about this many, which may run side by side.
LOSS_PIECE = 1 << 14
#: Multiply-adds. In training each direction of a bidirectional layer gets a thread of its own from this amount of work a
#: direction, 0.4 ms; to start one takes 0.1 ms.
MIN_DIRECTION_WORK = 20_000_000

#: Multiply-adds. A longer pass, of more than 0.1 s, is run by a helper of the main thread, which Ctrl-C can then reach;
#: starting one takes 0.1 ms.
LONG_WORK = 5_000_000_000

# ---------------------------------------------------------------------------------------------------------------------
# Unrolled loops

#: Units. Layers with more are not unrolled: a step of 64 LSTM units takes 1.1 times as long in a loop, and the code of the
#: recurrent product, 16 bytes for each vector of weights, would leave the cache of instructions.
MAX_UNROLLED_UNITS = 64

# ---------------------------------------------------------------------------------------------------------------------
# Hand-over to the team of threads

#: Spins. How long the caller waits for the last piece before it offers its core to other threads: about 20 us.
SPINS_BEFORE_YIELD = 2_000
#: Spins. How long a thread looks for work before it sleeps: about 0.5 ms, longer than what lies between two passes of a
#: training step.
SPINS_BEFORE_SLEEP = 30_000
#: Nanoseconds, and a fraction of the call. A call that waited longer than both for its last piece says that other processes
#: use the cores.
LATE_NS, LATE_FRACTION = 500_000, 0.4
#: Calls. After a late call this many are made by one thread; twice as many after each further one, up to the second number.
MIN_REST_CALLS, MAX_REST_CALLS = 2, 256
#: Nanoseconds. Calls that follow one another within this time keep threads awake, however small the calls are.
AWAKE_NS = 500_000
#: Nanoseconds. After this time a call asks again on which cores it may run, so that threads that are awake follow; asking
#: takes 1 us, and threads that wake ask anyway.
AFFINITY_NS = 50_000_000

# ---------------------------------------------------------------------------------------------------------------------
# Memory

#: Bytes. Blocks of at least this size come from the system and go back to it, so we keep them. They would all begin at the
#: same place of a page, where a core takes a load for one of what was just stored to another block: Adam over four took
#: two to three times as long. So their beginnings are moved apart.
LARGE_BLOCK_BYTES = 1 << 16
#: Arrays. Large ones whose memory is kept to be used again.
MAX_RECYCLED_ARRAYS = 12

# ---------------------------------------------------------------------------------------------------------------------
# Loops that are generated from a cell's equations


class LoopCosts(NamedTuple):
    """Nanoseconds that a step takes for each unit: the mean of cells with two to five elementary functions.

    Attributes
    ----------
    forward : dict
        By elementary functions in a loop (0 is all of a step's) and vectors that it works on at once: in rows of two
        vectors, and in rows of eight.
    backward : dict
        By vectors at once: in loops with elementary functions, and in loops without. All of a step is one loop.
    """

    forward: dict[tuple[int, int], tuple[float, float]]
    backward: dict[int, tuple[float, float]]


#: By bits of a vector register and of a number. An elementary function is a chain of operations that wait for one another,
#: so several vectors at once keep the units busy, as long as the registers hold what they need; a loop for each function
#: needs the fewest, but has its costs in narrow rows. ``python -m benchmarks.loop_costs`` measures such a table. All of a
#: step in one loop of single vectors, (0, 1), is not among the ways: it takes as long as (0, 2) by itself, but made
#: inference of layers of 32 units 2 to 4% slower.
LOOP_COSTS = {
    (512, 32): LoopCosts(
        {(0, 2): (0.70, 0.59), (1, 4): (0.87, 0.51)}, {1: (1.11, 0.32), 2: (0.78, 0.42), 4: (0.84, 0.40)}
    ),
    (256, 32): LoopCosts(
        {(0, 2): (1.46, 1.26), (1, 4): (1.82, 1.02)}, {1: (1.70, 0.37), 2: (1.35, 0.39), 4: (1.40, 0.52)}
    ),
    (512, 64): LoopCosts(
        {(0, 2): (2.48, 2.22), (1, 4): (3.20, 1.80)}, {1: (1.36, 0.68), 2: (1.37, 0.74), 4: (1.46, 0.76)}
    ),
}
#: Vectors. Rows of at least this many are wide: with four vectors a loop of four at once begins to gain.
WIDE_ROW_VECTORS = 4
