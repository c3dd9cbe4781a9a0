"""The command ``fastrnn``: ``fastrnn info`` and ``fastrnn warmup``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from fastrnn.info import describe, show_versions

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
        The exit code: 0, or 2 for invalid arguments.
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
    arguments = parser.parse_args(argv)
    if arguments.command == "info":
        if arguments.json:
            print(json.dumps(describe(), indent=1))
        else:
            show_versions()
        return 0
    return _warmup(arguments)


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
