"""Compare fastrnn with itself in different modes, and with the machine's limit: python -m benchmarks.ratios

Prints one table of targets and measured ratios: a ragged batch over the full one; a mask that hides no step or one step over
no mask; the speed of float64 over float32; of two threads over one, with the micro-kernel alone on both cores as a control;
of `unroll=True` over `unroll=False`; and of a layer over the micro-kernel. The two sides of a ratio take turns, block by
block; a ratio is the median over the rounds, with its quartiles. Written to benchmarks/results/: ratios.json and ratios.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.limits import micro_kernel_work
from benchmarks.report import described, table
from benchmarks.timing import environment, time_side_by_side
from fastrnn.bench.cases import CELLS, KINDS, Case, Size
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.peers import Contender, thread_counts

RESULTS = Path(__file__).parent / "results"

RAGGED, FULL_MASK, DOUBLE, TWO_THREADS = 1.15, 1.05, 0.45, 1.85
UNROLLED, PEAK_LARGE, PEAK_SMALL = 1.25, 0.80, 0.60
#: Cases that take less time are not worth a second thread.
THREADS_FROM_SECONDS = 1e-3
#: Long enough for all cores to be awake and on separate physical cores (see `timing.wait`); shorter than
#: `timing.PAUSE_SECONDS`, as no other library's threads are in the process.
PAUSE = 3e-2
#: Operations of the control: about 10 ms on one core.
CONTROL_FLOP = 1e9

BATCHES = (
    Size(16, 50, 13, 33),
    Size(32, 100, 32, 32),
    Size(32, 100, 64, 128),
    Size(128, 60, 12, 100),
    Size(64, 50, 128, 256),
)
#: Few sequences, which cannot be divided evenly between two threads: the threads split each step.
FEW = (Size(1, 50, 64, 512), Size(9, 40, 77, 511))
SHORT = tuple(Size(b, t, i, h) for b in (1, 16, 64) for t in (4, 32) for i, h in ((8, 8), (32, 32)))
LARGE = (Size(32, 100, 64, 128), Size(64, 50, 128, 256), Size(128, 50, 256, 512))
SMALL = (Size(32, 100, 32, 32), Size(128, 100, 32, 32))


@dataclass
class Line:
    """One measured ratio and its target."""

    what: str
    case: str
    measured: float
    quartiles: tuple[float, float]
    target: float
    #: Whether the target is an upper bound; otherwise it is a lower bound.
    at_most: bool
    #: The two sides are equally fast up to noise: the target is met if the quartiles include it.
    by_chance: bool = False
    #: A measurement of the machine itself, without a target to meet.
    control: bool = False

    @property
    def met(self) -> bool:
        low, high = self.quartiles if self.by_chance else (self.measured, self.measured)
        return low <= self.target if self.at_most else high >= self.target

    def row(self) -> tuple[str, ...]:
        sign = "<=" if self.at_most else ">="
        spread = f"{self.quartiles[0]:.3g} to {self.quartiles[1]:.3g}"
        chance = " (within quartiles)" if self.by_chance else ""
        target, met = f"{sign} {self.target:g}{chance}", "yes" if self.met else "NO"
        if self.control:
            target, met = "(control)", ""
        return self.what, self.case, target, f"{self.measured:.3g}", spread, met


@dataclass(frozen=True)
class Settings:
    cells: tuple[str, ...] = CELLS
    kinds: tuple[str, ...] = KINDS
    most_units: int | None = None
    seconds: float = 1.0

    def cases(self, sizes: Sequence[Size]) -> Iterator[Case]:
        for cell in self.cells:
            for kind in self.kinds:
                for size in sizes:
                    if self.most_units is None or size.units <= self.most_units:
                        yield Case(cell, size, kind)


def one(case: Case, threads: int = 1, **options: object) -> Contender:
    (contender,) = fastrnn_contenders(case, (threads,), **options)
    return contender


def quartiles(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return float(median), (float(low), float(high))


def micro_kernel(flop: float, threads: int = 1) -> Contender:
    """`flop` operations of the micro-kernel alone."""
    run = micro_kernel_work(flop, threads)
    return Contender("micro-kernel", str(threads), run, run)


def race(left: Contender, right: Contender, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Seconds per call of both, paired by round."""
    a, b = time_side_by_side([left, right], seconds=settings.seconds, least=9, pause=PAUSE)
    return a, b


def ragged(settings: Settings) -> Iterator[Line]:
    for case in settings.cases(BATCHES):
        part = replace(case, variant="ragged")
        a, b = race(one(part), one(case), settings)
        share = part.rows / case.rows
        middle, spread = quartiles(a / b / share)
        yield Line(
            "ragged / (full x share of steps)", f"{case}, share {share:.2f}", middle, spread, RAGGED, True
        )


def with_mask(case: Case, mask: np.ndarray) -> Contender:
    """The plain case, called with a mask."""
    from fastrnn.bench.ours import fastrnn_model

    (x, y), model = case.data(), fastrnn_model(case, 1)

    def infer() -> object:
        return model.layers[0](x, mask=mask)

    def train() -> object:
        return model.train_on_batch(x, y, mask=mask)

    return Contender("fastrnn", "1", infer if case.kind == "inference" else train, infer)


def masks(settings: Settings) -> Iterator[Line]:
    """A mask that hides no step, and one that hides a single step, which saves almost no work."""
    for case in settings.cases(BATCHES):
        everything = np.ones((case.size.batch, case.size.steps), bool)
        but_one = everything.copy()
        but_one[0, -1] = False
        for what, mask in (("mask of True", everything), ("mask of True but for one step", but_one)):
            a, b = race(with_mask(case, mask), one(case), settings)
            middle, spread = quartiles(a / b)
            yield Line(f"{what} / no mask", str(case), middle, spread, FULL_MASK, True)


def double(settings: Settings) -> Iterator[Line]:
    for case in settings.cases(BATCHES):
        a, b = race(one(case), one(replace(case, dtype="float64")), settings)
        middle, spread = quartiles(a / b)
        yield Line("speed of float64 / float32", str(case), middle, spread, DOUBLE, False)


def two_threads(settings: Settings) -> Iterator[Line]:
    if thread_counts()[-1] < 2:
        print("one core is free to this process: two threads are not measured", flush=True)
        return
    for case in settings.cases(BATCHES + FEW):
        a, b = race(one(case, 1), one(case, 2), settings)
        if np.median(a) < THREADS_FROM_SECONDS:
            continue
        middle, spread = quartiles(a / b)
        yield Line("speed of two threads / one", str(case), middle, spread, TWO_THREADS, False)
        a, b = race(micro_kernel(CONTROL_FLOP), micro_kernel(CONTROL_FLOP, 2), settings)
        middle, spread = quartiles(a / b)
        yield Line("... of the micro-kernel alone", "then", middle, spread, TWO_THREADS, False, control=True)


def unrolled(settings: Settings) -> Iterator[Line]:
    for case in settings.cases(SHORT):
        a, b = race(one(case), one(case, unroll=True), settings)
        middle, spread = quartiles(a / b)
        pays = case.size.batch in (1, 16)
        target = UNROLLED if pays else 1.0
        yield Line("speed unrolled / looped", str(case), middle, spread, target, False, by_chance=not pays)


def peak(settings: Settings) -> Iterator[Line]:
    chosen = replace(settings, cells=tuple(c for c in settings.cells if c != "simple_rnn"))
    for sizes, target in ((LARGE, PEAK_LARGE), (SMALL, PEAK_SMALL)):
        for case in chosen.cases(sizes):
            a, b = race(micro_kernel(case.flop), one(case), settings)
            middle, spread = quartiles(a / b)
            yield Line("share of the micro-kernel's speed", str(case), middle, spread, target, False)


PARTS: dict[str, Callable[[Settings], Iterator[Line]]] = {
    "ragged": ragged,
    "mask": masks,
    "float64": double,
    "threads": two_threads,
    "unroll": unrolled,
    "peak": peak,
}


def markdown(lines: Sequence[Line]) -> str:
    head = ("what", "case", "target", "measured", "quartiles", "met?")
    lines_to_meet = [line for line in lines if not line.control]
    met = sum(line.met for line in lines_to_meet)
    body = table(head, [line.row() for line in lines])
    return "\n".join([*body, "", f"{met} of {len(lines_to_meet)} met."]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--most-units", type=int, default=None, help="leave out sizes with more units")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="time for each side of a ratio (default 1)"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    args = parser.parse_args(argv)
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts {sorted(unknown)}; choose from {list(PARTS)}")
    settings = Settings(tuple(args.cells), tuple(args.kinds), args.most_units, args.seconds)
    info = environment()
    args.out.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    for part in args.parts or PARTS:
        for line in PARTS[part](settings):
            lines.append(line)
            print(" | ".join(line.row()), flush=True)
            content = {"environment": info, "lines": [{**asdict(one), "met": one.met} for one in lines]}
            (args.out / "ratios.json").write_text(json.dumps(content, indent=1) + "\n")
    text = markdown(lines)
    (args.out / "ratios.md").write_text(f"{described(info)} One thread unless said.\n\n{text}")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
