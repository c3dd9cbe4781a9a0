"""The command ``fastrnn``: ``fastrnn info``, ``fastrnn warmup`` and ``fastrnn bench``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastrnn.info import describe, show_versions
from fastrnn.registry import choices

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0, 1 if nobody reads what is printed, or 2 for invalid arguments.
    """
    parser = argparse.ArgumentParser(prog="fastrnn", description="Recurrent networks on the CPU.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser(
        "info", help="print versions, processor, threads and the cache of compiled kernels"
    )
    info.add_argument("--json", action="store_true", help="as JSON")
    warmup = commands.add_parser("warmup", help="compile the usual kernels and keep them on disk")
    warmup.add_argument(
        "cells", nargs="*", metavar="CELL", help="such as lstm, gru (default: lstm, gru and simple_rnn)"
    )
    warmup.add_argument(
        "--dtype", nargs="+", default=["float32"], help="float32, float64 or both (default float32)"
    )
    warmup.add_argument("--no-training", action="store_true", help="only the kernels of predict")
    warmup.add_argument("--quiet", action="store_true", help="no progress bar")
    bench = commands.add_parser(
        "bench",
        help="time this machine: fastrnn and those that are installed of torch, keras with jax, jax, onnxruntime, openvino",
    )
    bench.add_argument("--cells", nargs="+", help="simple_rnn, gru, lstm (default: all)")
    bench.add_argument(
        "--peers", nargs="*", help="torch, keras-jax, jax, onnxruntime, openvino (default: those installed)"
    )
    bench.add_argument(
        "--seconds", type=float, default=0.5, help="time for each library and case (default 0.5)"
    )
    bench.add_argument("--quick", action="store_true", help="one size only")
    bench.add_argument(
        "--out", type=Path, default=Path("fastrnn-bench"), help="folder of the files (fastrnn-bench)"
    )
    bench.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args(argv)
    if arguments.command == "bench":
        return _bench(arguments)
    if arguments.command == "info":
        return _info(arguments)
    return _warmup(arguments)


def _info(arguments: argparse.Namespace) -> int:
    try:
        if arguments.json:
            print(json.dumps(describe(), indent=1))
        else:
            show_versions()
        sys.stdout.flush()
    except BrokenPipeError:  # the program that reads has ended, as `head` does
        # Python writes what is left at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _warmup(arguments: argparse.Namespace) -> int:
    from fastrnn.estimators.warmup import warmup

    options: dict[str, Any] = {"training": not arguments.no_training, "verbose": not arguments.quiet}
    if arguments.cells:
        options["cells"] = arguments.cells
    try:
        warmup(dtypes=arguments.dtype, **options)
    except ValueError as error:  # an unknown cell or dtype; nothing was compiled
        print(f"fastrnn warmup: {error}", file=sys.stderr)
        return 2
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from fastrnn.bench.cases import CELLS
    from fastrnn.bench.leaderboard import SIZES, Settings, described, installed_peers, run, write
    from fastrnn.bench.peers import PEERS

    here = installed_peers()
    peers = here if arguments.peers is None else arguments.peers
    cells = arguments.cells or CELLS
    wrong = [f"there is no cell {name!r}; {choices(name, CELLS)}" for name in cells if name not in CELLS]
    wrong += [f"there is no peer {name!r}; {choices(name, PEERS)}" for name in peers if name not in PEERS]
    wrong += [
        f"{name} is not installed: pip install {' '.join(PEERS[name][0])}"
        for name in peers
        if name in PEERS and name not in here
    ]
    if not arguments.seconds > 0:
        wrong.append(f"--seconds {arguments.seconds}: give a number above 0")
    if wrong:
        print(f"fastrnn bench: {wrong[0]}", file=sys.stderr)
        return 2
    if not peers:
        print('no peer to compare with: pip install "fastrnn[peers]" installs all of them', file=sys.stderr)
    sizes = SIZES[1:2] if arguments.quick else SIZES
    found = run(
        Settings(cells, sizes=sizes, libraries=peers, seconds=arguments.seconds, verbose=not arguments.quiet)
    )
    print(described(found))
    for file in write(found, arguments.out):
        print(file)
    return 1 if found["failures"] else 0
