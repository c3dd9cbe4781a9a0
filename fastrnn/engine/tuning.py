"""All measured constants with their units.

These numbers determine how work is divided and distributed to threads. Results do not depend on them, except for the
rounding of weight gradients, whose order of additions depends on the number of rows that are summed at a time.

All were measured on two cores of a virtual machine: AMD EPYC, AVX-512, 48 KiB of L1 and 1 MiB of L2 per core. Most are the
size at which two methods take the same time. To try another value, change it here and run
``python -m benchmarks.compare HEAD .``, which compares the working tree with the last commit.

Work is counted in multiply-adds of matrix products; one core of that machine computes 54 per nanosecond.
"""

from typing import NamedTuple

# ---------------------------------------------------------------------------------------------------------------------
# One thread: chunks of time steps and blocks of rows

#: Bytes. Scratch memory of a chunk of time steps, which must fit a core's L2 together with the packed weights, because the
#: steps read what the input product has written.
CHUNK_BYTES = 192 * 1024
#: Ratio. A chunk of threads that compute units of their own is larger by this: with nine sequences of 511 units and vectors
#: of 512 bits, a pass takes 2 to 4% less time than with chunks of 2 and 3 steps, and no less with larger ones.
UNITS_CHUNK = 4
#: Rows. Minimum for a chunk in the backward pass, even if it exceeds CHUNK_BYTES. Weight gradients are read and written once
#: for each chunk; if they exceed L2, this takes longer than the products of fewer rows.
MIN_GRAD_ROWS = 256
#: Rows. Maximum for a block of a thread's sequences, so that a chunk has several steps.
MAX_BLOCK_ROWS = 64
#: Rows. With at least this number of rows in a step, the input product reads them directly; fewer rows are first copied
#: together with those of other steps. This saves 3 to 8% of the time of inference of small networks.
MIN_ROWS_IN_PLACE = 16
#: Rows. By bits of a vector: the product of a weight gradient with at least this number of rows (inputs or units) has its
#: right operand packed: with 512 bits it is 1.1 to 1.5 times as fast; with 256 bits 1.2 to 1.4 times if rows of the operand
#: are of 4 KiB and more, and equally fast otherwise. With fewer rows packing takes longer than it saves.
MIN_PACKED_ROWS = {512: 48, 256: 128, 128: 128}


class TileShape(NamedTuple):
    """Rows of C, vectors of its columns, the width of a vector in bits, and the most rows of tiles of fewer vectors."""

    rows: int
    vectors: int
    bits: int
    narrow_rows: int


#: Rows and vectors. The largest tile of the product C = A B by architecture and bits of a vector. Accumulators, a row of
#: B's vectors and one broadcast must fit the registers (16 on x86-64 without AVX-512, otherwise 32); fewer accumulators
#: would not hide the latency of a multiply-add. With 512 bits, six rows are 1.02 to 1.13 times as fast as four if B does not
#: fit L1, most for 9 rows (two tiles instead of three); tiles of fewer vectors have at most four, because each shape takes
#: time to compile. Those of 128 bits were not measured; tests/test_tiles.py counts the
#: instructions of all.
TILES = {
    ("x86-64", 512): TileShape(6, 4, 512, 4),
    ("x86-64", 256): TileShape(6, 2, 256, 6),
    ("x86-64", 128): TileShape(4, 2, 128, 4),
    ("aarch64", 128): TileShape(6, 4, 128, 6),
}

#: Vectors. A multiply-add takes 4 cycles and two begin in each: a tile of few rows, whose sums would wait for one another,
#: takes as many panels of B as have this number of sums. Products of one row are then 1.3 to 1.8 times as fast with
#: vectors of 256 bits, those of two rows 1.3 to 1.6 times; with 512 bits those of one row and 128 columns 1.1 times.
MIN_SUMS = 8
#: Bytes of B. By bits of a vector: with more, each tile takes one panel: from L2, vectors of 512 bits of two panels took 1.3
#: times as long as those of one.
MAX_WIDE_BYTES = {512: 1 << 16, 256: 1 << 62, 128: 1 << 62}

# ---------------------------------------------------------------------------------------------------------------------
# How many threads

#: Multiply-adds. Minimum work for each additional thread, 11 us: passing work to a thread takes 1.5 us, and data that
#: another core has written must be read from its cache. Measured with small passes, whose call takes 3 us.
MIN_THREAD_WORK = 600_000
#: Multiply-adds. Time of a time step without its products: 75 ns.
STEP_WORK = 4_000
#: Multiply-adds. Minimum work to wake a sleeping thread, 75 us, because waking takes about as long as it saves.
MIN_WAKING_WORK = 4_000_000
#: Rows. Minimum number of sequences of each thread in inference: a product with one row is limited by loading the weights,
#: and takes nearly as long as with two. (In training other products have all time steps as rows, so one is enough.)
MIN_INFERENCE_ROWS = 2
#: Rows. A product with fewer rows takes as long as with this number of rows, for the same reason.
MIN_PRODUCT_ROWS = 2.2
#: Multiply-adds. Time of synchronisation in a split time step: 0.9 us for a single sequence, where only the product is
#: split, and 2.8 us for several sequences, where the rows of the gates are split too.
SPLIT_STEP_COST = 50_000, 150_000
#: Multiply-adds. The same where threads compute units of their own and wait once: 0.5 us for the hand-over, and as long
#: again to read the states that another core has written.
UNITS_STEP_COST = 100_000
#: Multiply-adds. Minimum work of a thread's slice of a split step: 0.5 us.
MIN_SLICE_WORK = 25_000
#: Units. In layers with at least this number, each gate is packed by itself, so that threads can compute units of their own
#: in a split step. In smaller ones the calls of a product for each gate would show. Chosen, not measured.
MIN_APART_UNITS = 160
#: Ratios. Most that packing gates by themselves may add to the vectors of a product, and most by which the largest slice of
#: units may exceed the mean. Chosen, not measured.
MAX_APART_RATIO, MAX_SLICE_RATIO = 1.02, 1.15
#: Numbers. With at least this number of weights, all threads sum gradients; below it, transferring cache lines between cores
#: would take longer.
MIN_SHARED_SUM = 1 << 18
#: Bytes. Weights up to this size are packed by every thread separately, so that they are in its L2. When they were packed
#: once for two threads, 100 LSTM units took 53 us instead of 5, and two threads trained 1.2 instead of 1.9 times as fast as
#: one.
OWN_WEIGHTS_BYTES = 512 * 1024
#: Predictions. The squared error of fewer is computed by NumPy, without the call of a kernel. Chosen, not measured.
MIN_LOSS_KERNEL = 1 << 8
#: Predictions. A loss is computed in pieces of about this many, which may run side by side.
LOSS_PIECE = 1 << 14
#: Multiply-adds. In training each direction of a bidirectional layer gets a thread of its own from this amount of work a
#: direction, 0.4 ms at the speed given above; to start one takes 0.1 ms.
MIN_DIRECTION_WORK = 20_000_000

#: Multiply-adds. A longer pass, of more than 0.1 s, is run in a helper thread, so that Ctrl-C can end it; starting the
#: thread takes 0.1 ms.
LONG_WORK = 5_000_000_000

# ---------------------------------------------------------------------------------------------------------------------
# Prepared training steps

#: Batches of an epoch. From this number on a fit by itself prepares its steps: a prepared step takes 50 us less, but its
#: kernels take half a second to compile, once on a machine. Not the number of updates, so that training for some epochs
#: gives bitwise the weights that longer training has after them.
MIN_PREPARED_BATCHES = 8
#: Bytes. Batches with larger inputs, states and gates take so much longer than Python's calls that they are not prepared,
#: and their memory is not kept. Chosen, not measured.
MAX_PREPARED_BYTES = 1 << 23
#: Batches of one shape. After this many the passes of a model for that shape are prepared. That takes 6 ms, and once on a
#: machine 0.1 s to compile three kernels; each of the following steps takes 20 to 45 us less. Chosen so that short fits do
#: not wait for it.
MIN_PASSES = 64
#: Bytes. As MAX_PREPARED_BYTES, for passes, which a trained model keeps. A step of LSTM with half of it takes 0.5 ms, of
#: which prepared passes save a tenth.
MAX_PASS_BYTES = 1 << 22
#: Multiply-adds. Largest work of the dense layer, which a prepared step computes without the micro-kernel. Chosen, not
#: measured.
MAX_PREPARED_HEAD = 100_000
#: Multiply-adds. Work of the forward passes of the updates that one call makes, about 20 ms, after which Ctrl-C is answered.
MAX_UPDATES_WORK = 250_000_000

# ---------------------------------------------------------------------------------------------------------------------
# Unrolled loops

#: Units. Layers with more are not unrolled. Not measured, but by size: the recurrent product of 64 LSTM units has 2,048
#: multiply-adds of 8 float32 numbers, which is some 16 KiB of straight-line code, half of the cache of instructions.
MAX_UNROLLED_UNITS = 64
#: Vectors. Independent sums of an unrolled product: a multiply-add takes 4 cycles and two begin in each, so 8 are in flight.
#: Not measured.
UNROLLED_SUMS = 8
#: Sums. For each column of the backward product, which has few of them and would wait for a single sum of each. Not
#: measured.
UNROLLED_COLUMN_SUMS = 4
#: Vectors. Sums of a step (gates times vectors of units) up to which its functions read its product from registers.
#: A step of 8 LSTM units takes 34.5 ns with vectors of 512 bits, and 36.5 ns if the sums go through memory; one of 16 units
#: with vectors of 256 bits, which has 8 sums, 55 and 60 ns; one of 32 units, which has 16, 130 and 135 ns. Zen 5.
PRODUCT_SUMS = 16

# ---------------------------------------------------------------------------------------------------------------------
# Small layers with sequences as lanes of vectors

#: Units and weights. Layers with more units, or more weights of the inputs of a gate, always have their sequences as rows.
MAX_LANE_UNITS, MAX_LANE_KERNEL = 24, 1024
#: Units and weights. If a layer has at most this many units, and a gate at most this many weights of inputs, sequences are
#: lanes when a step then has no more vectors than in rows. For larger layers rows must have MIN_LANE_GAIN times as many
#: vectors, because loops over their units are longer, and transposing many inputs takes as long as the product saves.
SMALL_LANE_UNITS, SMALL_LANE_KERNEL, MIN_LANE_GAIN = 16, 256, 1.3
#: Time steps. Batches of fewer have their sequences as rows. Chosen, not measured.
MIN_LANE_STEPS = 3
#: Vectors. Sizes of a block of sequences; with four vectors, 16 units took 1.03 times as long with 512 bits, and up to 1.07
#: times with 256 bits.
LANE_VECTORS = 1, 2
#: Rows. Sizes of a tile of the product; the largest is used whose accumulators fit in registers. With one vector, 16 rows
#: were up to 1.06 times as fast as 8. The last number is that of a tile of the weight gradients.
LANE_HEIGHTS, LANE_DOT_ROWS = (16, 8, 6, 4, 2, 1), 4
#: Vectors. The fixed cost of a block of sequences, as the time of this many vectors.
LANE_BLOCK_COST = 0.5
#: Bytes. Inputs and states of a chunk of time steps, which are transposed together, and stay in L1.
LANE_CHUNK_BYTES = 24 * 1024
#: Bytes. What the backward pass keeps of a chunk of time steps. Its weight gradients are added at the end of a chunk, which
#: takes as long as some steps; with 192 KiB 8 SimpleRNN units took 1.3 times as long.
LANE_BACK_CHUNK_BYTES = 96 * 1024

# ---------------------------------------------------------------------------------------------------------------------
# Distribution of work to the team of threads

#: Spins. The caller waits for the last piece for about 20 us before it yields its core to other threads.
SPINS_BEFORE_YIELD = 2_000
#: Microseconds. A thread waits actively for work before it sleeps, longer than the time between two passes of a training
#: step; FASTRNN_SPIN_US sets another time. The least is longer than the time from the waking of a thread to its work.
SPIN_US, LEAST_SPIN_US = 500, 50
#: Spins. Their time is measured when the team starts, because it differs between processors.
TIMED_SPINS = 2_000
#: Nanoseconds, and a fraction of the call. If a call waited longer than both for its last piece, it is late: other processes
#: use the cores.
LATE_NS, LATE_FRACTION = 500_000, 0.4
#: Calls. After a late call, the next MIN_REST_CALLS calls use one thread; the number doubles after each further late call,
#: up to MAX_REST_CALLS.
MIN_REST_CALLS, MAX_REST_CALLS = 2, 256
#: Nanoseconds. Calls within this time of each other keep threads awake, even if the calls are small.
AWAKE_NS = 500_000
#: Nanoseconds. After this time a call reads its CPU affinity again, to move threads that are awake; reading takes 1 us, and
#: threads that are woken are moved anyway.
AFFINITY_NS = 50_000_000

# ---------------------------------------------------------------------------------------------------------------------
# Memory

#: Bytes. Blocks of at least this size are kept, because the allocator would return them to the system. They start at
#: different offsets in a page: with equal offsets, loads wait for stores to other blocks, and an update of Adam, which uses
#: four blocks, took two to three times as long.
LARGE_BLOCK_BYTES = 1 << 16
#: Arrays. Maximum number of large arrays whose memory is kept for reuse.
MAX_RECYCLED_ARRAYS = 12
#: Views. Maximum number of shapes of which a thread's pool keeps its arrays. Chosen, not measured.
MAX_POOL_VIEWS = 100
#: Sets of options and sizes. Maximum number whose plans are kept, and whose schedules of padded sequences. Chosen, not
#: measured.
MAX_PLANS, MAX_SCHEDULES = 512, 256
#: Time steps. Padded batches of at most this number of steps are not divided, even if most are padding: what they take is
#: a few megabytes. Chosen, not measured.
MAX_UNDIVIDED_STEPS = 1 << 16
#: Objects. Number of new ones between two garbage collections while code is compiled; Python's default is 700. The compiler
#: makes millions and keeps them. Chosen, not measured.
COLLECT_EVERY = 600_000

# ---------------------------------------------------------------------------------------------------------------------
# Loops that are generated from the equations of a cell


class LoopCosts(NamedTuple):
    """Nanoseconds that a pass takes for each unit and time step, products included: the mean of five cells.

    Attributes
    ----------
    forward : dict
        By elementary functions in a loop (0 is all of a step's) and vectors that it works on at once: in rows of one
        vector, and in rows of eight.
    backward : dict
        By vectors at once, in rows of eight: in loops with elementary functions, and in loops without. All of a step is
        one loop.
    """

    forward: dict[tuple[int, int], tuple[float, float]]
    backward: dict[int, tuple[float, float]]


#: By bits of a vector register and of a number. An elementary function is a chain of operations that wait for one another,
#: so several vectors at once keep the units busy, as long as the registers hold what they need; a loop for each function
#: needs the fewest, but has its costs in narrow rows. ``python -m benchmarks.loop_costs`` measures such a table, in
#: batches of 16. With 16 registers, four vectors at once keep some on the stack, and are faster all the same, most of
#: all for single sequences.
LOOP_COSTS = {
    (512, 32): LoopCosts(
        {(0, 2): (2.10, 4.05), (1, 2): (2.56, 4.07), (1, 4): (2.56, 4.05), (2, 2): (2.36, 4.06)},
        {1: (13.09, 8.78), 2: (12.98, 8.68), 4: (13.70, 8.87)},
    ),
    (512, 64): LoopCosts(
        {(0, 2): (4.42, 5.55), (1, 2): (5.68, 5.33), (1, 4): (5.72, 5.27), (2, 2): (5.15, 5.42)},
        {1: (16.34, 10.50), 2: (16.10, 9.88), 4: (17.49, 10.98)},
    ),
    (256, 32): LoopCosts(
        {(0, 2): (3.69, 4.69), (1, 2): (4.13, 4.52), (1, 4): (4.21, 4.46), (2, 2): (4.02, 4.56)},
        {1: (12.86, 7.93), 2: (12.47, 8.12), 4: (13.38, 8.22)},
    ),
    (256, 64): LoopCosts(
        {(0, 2): (10.11, 7.70), (1, 2): (11.00, 6.97), (1, 4): (12.39, 6.87), (2, 2): (9.93, 7.30)},
        {1: (15.08, 8.97), 2: (14.15, 9.04), 4: (16.14, 9.49)},
    ),
}
#: Ratio. Ways whose costs differ by less take the same time. Chosen, not measured.
SAME_COST = 1.01
#: Vectors. Rows of at least this many are wide: with four, a loop for each function begins to gain.
WIDE_ROW_VECTORS = 4
